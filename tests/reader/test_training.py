"""The whole way with a network that is too small to learn: lessons, steps, checkpoints, a GGUF that llama.cpp reads."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from llama_cpp import Llama
from reader.corpus import Corpus
from reader.examples import Examples
from reader.gguf_file import write_gguf
from reader.lessons import batches, looks
from reader.network import SHAPES, Look, Network, astray
from reader.tokens import TEMPLATE, families, prompt_ids, telling
from reader.training import Course, Training, read_checkpoint, stage
from tokenizers import Tokenizer

from models.llm.llama.vocabulary import Vocabulary

COURSE = Course("tiny", tokens=20_000, batch=1500)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_looks_are_at_what_has_been_read(corpus: Corpus, tokenizer: Tokenizer) -> None:
    batch = next(batches(Examples(corpus, 1), tokenizer, 2000, 700))
    shape = SHAPES["cpu"]

    taught = looks(batch, torch.from_numpy(telling(tokenizer)), shape, all_of_them=True)

    assert {look.layer for look in taught} == {0, 1, 2, shape.layers - 3, shape.layers - 2}
    for look in taught:
        last = (look.allowed * torch.arange(batch.ids.size(1))).amax(-1)
        assert (last <= look.query).all() and look.allowed.sum() > 0


def test_a_head_that_looks_right_loses_nothing() -> None:
    k = torch.eye(4).unsqueeze(0) * 50
    allowed = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    look = Look("one", 0, 0, torch.tensor([[3]]), allowed)

    assert astray(k[:, [1, 1, 1, 1]], k, look) < 0.001
    assert astray(k[:, [2, 2, 2, 2]], k, look) > 100


def test_words_of_one_stem_begin_alike(tokenizer: Tokenizer) -> None:
    weights = Network(SHAPES["tiny"]._replace(vocabulary=tokenizer.get_vocab_size()), families(tokenizer))
    embedding = weights.token_embd.weight.detach()

    def likeness(a: str, b: str) -> float:
        return float(embedding[tokenizer.token_to_id(a)] @ embedding[tokenizer.token_to_id(b)])

    assert likeness("The", "Ġthe") > 0.4 > abs(likeness("Ġthe", "Ġkeeper"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.59, 0.99, 1.0])
def test_the_course_never_goes_back(share: float) -> None:
    now, later = stage(share), stage(min(1.0, share + 0.05))

    assert now.level <= later.level and now.longest <= later.longest and now.rate >= later.rate > 0


def test_a_course_goes_on_from_its_checkpoint(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = Training(COURSE, corpus, tokenizer, tmp_path, 1)
    first.run(0)
    assert first.seen == 0 and (tmp_path / "checkpoint.pt").exists()

    second = Training(COURSE._replace(tokens=3000), corpus, tokenizer, tmp_path, 1)
    second.run(5)
    third = Training(COURSE, corpus, tokenizer, tmp_path, 1)

    assert third.seen == second.seen >= 3000 and third.steps == second.steps
    for ours, theirs in zip(third.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert any("exact" in json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines())


def test_another_shape_is_refused(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    Training(COURSE, corpus, tokenizer, tmp_path, 1).save()

    with pytest.raises(SystemExit, match="another shape"):
        Training(COURSE._replace(size="cpu"), corpus, tokenizer, tmp_path, 1)


@pytest.mark.parametrize("form", ["f32", "q8_0"])
def test_llama_cpp_computes_what_was_trained(form: str, corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    training = Training(COURSE, corpus, tokenizer, tmp_path, 1)
    with torch.no_grad():  # an untrained block adds nothing
        for parameter in training.network.blk.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    training.save()
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    out = tmp_path / "tiny.gguf"
    shape = SHAPES["tiny"]._replace(vocabulary=tokenizer.get_vocab_size())

    write_gguf(state["network"], shape, tokenizer, "tiny", out, form)

    ids = prompt_ids(tokenizer, [("user", "[1] a.md\nThe kettle is kept.\n\nQuestion: where is the kettle?")])
    with Vocabulary(out) as vocabulary:
        assert vocabulary.chat_template == TEMPLATE
        text = "[1] a.md\nThe kettle's 12 lids, naïve\n\nQuestion: where?"
        assert vocabulary.tokenize(text, parse_special=False) == tokenizer.encode(text).ids
    with torch.no_grad():
        wanted = training.network.logits(training.network(torch.tensor([ids]))[0])[0, -1].numpy()
    with contextlib.closing(Llama(str(out), n_ctx=256, n_threads=1, logits_all=True, verbose=False)) as model:
        model.eval(ids)
        found = np.array(model.scores[len(ids) - 1])
    difference = np.abs(found - wanted).max()
    assert difference < (0.02 if form == "f32" else 0.05) * np.abs(wanted).max()
