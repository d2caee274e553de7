"""Training with a network too small to learn: targets, steps, checkpoints, and a GGUF that llama.cpp computes."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from llama_cpp import Llama
from reader.attention_supervision import attention_targets
from reader.batches import batches
from reader.corpus import Corpus
from reader.examples import Examples
from reader.gguf_file import write_gguf
from reader.network import SHAPES, AttentionTarget, Network, attention_loss
from reader.tokens import TEMPLATE, content_token_mask, prompt_ids, token_features
from reader.training import Training, TrainingConfig, curriculum_stage, read_checkpoint
from tokenizers import Tokenizer

from models.llm.llama.vocabulary import Vocabulary

CONFIG = TrainingConfig("tiny", tokens=20_000, batch=1500)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_attention_targets_lie_before_their_queries(corpus: Corpus, tokenizer: Tokenizer) -> None:
    batch = next(batches(Examples(corpus, 1), tokenizer, 2000, 700))
    shape = SHAPES["cpu"]

    targets = attention_targets(batch, torch.from_numpy(content_token_mask(tokenizer)), shape, all_heads=True)

    assert {target.layer for target in targets} == {0, 1, 2, shape.layers - 3, shape.layers - 2}
    for target in targets:
        last = (target.allowed * torch.arange(batch.ids.size(1))).amax(-1)
        assert (last <= target.queries).all() and target.allowed.sum() > 0


def test_attention_loss_is_zero_at_the_target_and_large_elsewhere() -> None:
    k = torch.eye(4).unsqueeze(0) * 50
    allowed = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    target = AttentionTarget("one", 0, 0, torch.tensor([[3]]), allowed)

    assert attention_loss(k[:, [1, 1, 1, 1]], k, target) < 0.001
    assert attention_loss(k[:, [2, 2, 2, 2]], k, target) > 100


def test_tokens_of_one_word_have_similar_initial_embeddings(tokenizer: Tokenizer) -> None:
    network = Network(SHAPES["tiny"]._replace(vocabulary=tokenizer.get_vocab_size()), token_features(tokenizer))
    embedding = network.token_embd.weight.detach()

    def similarity(a: str, b: str) -> float:
        return float(embedding[tokenizer.token_to_id(a)] @ embedding[tokenizer.token_to_id(b)])

    assert similarity("The", "Ġthe") > 0.4 > abs(similarity("Ġthe", "Ġkeeper"))


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.3, 0.59, 0.99, 1.0])
def test_curriculum_stages_only_get_harder(progress: float) -> None:
    now, later = curriculum_stage(progress), curriculum_stage(min(1.0, progress + 0.05))

    assert now.difficulty <= later.difficulty and now.max_tokens <= later.max_tokens and now.rate >= later.rate > 0


def test_training_resumes_from_its_checkpoint(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = Training(CONFIG, corpus, tokenizer, tmp_path, 1)
    first.run(0)
    assert first.num_tokens == 0 and (tmp_path / "checkpoint.pt").exists()

    second = Training(CONFIG._replace(tokens=3000), corpus, tokenizer, tmp_path, 1)
    second.run(5)
    third = Training(CONFIG, corpus, tokenizer, tmp_path, 1)

    assert third.num_tokens == second.num_tokens >= 3000 and third.num_steps == second.num_steps
    for resumed, trained in zip(third.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(resumed, trained)
    assert any("exact" in json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines())


def test_a_checkpoint_of_another_shape_is_refused(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    Training(CONFIG, corpus, tokenizer, tmp_path, 1).save()

    with pytest.raises(SystemExit, match="another shape"):
        Training(CONFIG._replace(size="cpu"), corpus, tokenizer, tmp_path, 1)


@pytest.mark.parametrize("format", ["f32", "q8_0"])
def test_llama_cpp_computes_the_logits_of_the_trained_network(
    format: str, corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    training = Training(CONFIG, corpus, tokenizer, tmp_path, 1)
    with torch.no_grad():  # the blocks are initialized to add nothing
        for parameter in training.network.blk.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    training.save()
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    out = tmp_path / "tiny.gguf"
    shape = SHAPES["tiny"]._replace(vocabulary=tokenizer.get_vocab_size())

    write_gguf(state["network"], shape, tokenizer, "tiny", out, format)

    ids = prompt_ids(tokenizer, [("user", "[1] a.md\nThe kettle is kept.\n\nQuestion: where is the kettle?")])
    with Vocabulary(out) as vocabulary:
        assert vocabulary.chat_template == TEMPLATE
        text = "[1] a.md\nThe kettle's 12 lids, naïve\n\nQuestion: where?"
        assert vocabulary.tokenize(text, parse_special=False) == tokenizer.encode(text).ids
    with torch.no_grad():
        expected = training.network.logits(training.network(torch.tensor([ids]))[0])[0, -1].numpy()
    with contextlib.closing(Llama(str(out), n_ctx=256, n_threads=1, logits_all=True, verbose=False)) as model:
        model.eval(ids)
        logits = np.array(model.scores[len(ids) - 1])
    difference = np.abs(logits - expected).max()
    assert difference < (0.02 if format == "f32" else 0.05) * np.abs(expected).max()
