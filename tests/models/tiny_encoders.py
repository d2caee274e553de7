"""Small sentence-transformers models with random weights."""

from pathlib import Path

WORDS = "how long is parental leave weeks with full pay rust iron air water train platform shock waves flow"


def tokenizer() -> object:
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), ".", ",", "?", ":"]
    vocab += [*letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizerFast(vocab={word: id for id, word in enumerate(vocab)})


def config(**changes: object) -> object:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=96,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,  # scores far enough apart to compare
        **changes,
    )


def make_embedder(folder: Path, base: Path) -> Path:
    """Save an embedder with CLS pooling, a dense layer and two prompts to `folder`; its BERT goes to `base`."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import BertModel

    torch.manual_seed(7)
    BertModel(config()).save_pretrained(base)
    tokenizer().save_pretrained(base)
    parts = [Transformer(str(base), max_seq_length=48), Pooling(32, "cls"), Dense(32, 16), Normalize()]
    prompts = {"query": "how long: ", "passage": "rust, water: "}
    SentenceTransformer(modules=parts, prompts=prompts, device="cpu").save(str(folder), create_model_card=False)
    return folder
