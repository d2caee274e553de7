"""Models made for tests; the embedding model, converted once for all test runs."""

import asyncio
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from models.catalog import resolve_embedding
from models.encoder.messages import ModelFiles
from models.encoder.preparation import Preparation

BUILTIN = Path(__file__).parents[2] / "models" / "builtin" / "reader-v0.gguf"
WIDTH, INNER, STATE, RANK, LAYERS = 64, 128, 16, 8, 2


@pytest.fixture(scope="session")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model with random weights and the built-in vocabulary."""
    path = tmp_path_factory.mktemp("mamba") / "mamba.gguf"
    vocabulary: Any = gguf.GGUFReader(BUILTIN)
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, field in vocabulary.fields.items():
        if name.startswith("tokenizer."):
            writer.add_key_value(name, field.contents(), field.types[0], [*field.types, None][1])
    for name, tensor in tensors(len(vocabulary.fields["tokenizer.ggml.tokens"].data)).items():
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(num_tokens: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)

    def matrix(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) * shape[-1] ** -0.5

    blocks = {
        f"blk.{layer}.{name}": tensor
        for layer in range(LAYERS)
        for name, tensor in {
            "attn_norm.weight": np.ones(WIDTH),
            "ssm_in.weight": matrix(2 * INNER, WIDTH),
            "ssm_conv1d.weight": matrix(INNER, 4),
            "ssm_conv1d.bias": matrix(INNER),
            "ssm_x.weight": matrix(RANK + 2 * STATE, INNER),
            "ssm_dt.weight": matrix(INNER, RANK),
            "ssm_dt.bias": matrix(INNER),
            "ssm_a": -np.exp(matrix(INNER, STATE)),
            "ssm_d": np.ones(INNER),
            "ssm_out.weight": matrix(WIDTH, INNER),
        }.items()
    }
    return {"token_embd.weight": matrix(num_tokens, WIDTH) * 8, "output_norm.weight": np.ones(WIDTH), **blocks}


WORDS = "how long is parental leave weeks with full pay rust iron air water train platform shock waves flow"


@pytest.fixture(scope="session")
def minilm(request: pytest.FixtureRequest) -> ModelFiles:
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("converted")
    return asyncio.run(Preparation(cache).files(resolve_embedding("all-MiniLM-L6-v2"), "embedding"))


def _tokenizer() -> object:
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), ".", ",", "?", ":"]
    vocab += [*letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizerFast(vocab={word: id for id, word in enumerate(vocab)})


def _config(**changes: object) -> object:
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


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLS pooling, a dense layer, a prompt for queries and another for passages."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import BertModel

    torch.manual_seed(7)
    base, folder = tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("embedder")
    BertModel(_config()).save_pretrained(base)
    _tokenizer().save_pretrained(base)
    parts = [Transformer(str(base), max_seq_length=48), Pooling(32, "cls"), Dense(32, 16), Normalize()]
    prompts = {"query": "how long: ", "passage": "rust, water: "}
    SentenceTransformer(modules=parts, prompts=prompts, device="cpu").save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def tiny_reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("reranker")
    BertForSequenceClassification(_config(num_labels=1)).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder
