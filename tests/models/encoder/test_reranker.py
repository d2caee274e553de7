"""A tiny cross-encoder with random weights: its conversion against sentence-transformers, and the encoder process."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.encoder import conversion
from models.encoder.client import open_encoder
from models.encoder.exports import source_of
from models.encoder.messages import ModelFiles
from models.encoder.reranker import open_reranker
from models.errors import ModelFileError, ProcessFailed

pytestmark = pytest.mark.timeout(120)

QUERY = "how long is parental leave?"
TEXTS = [
    "leave with full pay",
    "rust",
    "iron, water, air",
    "a train platform",
    "weeks of leave " * 50,
    "shock waves flow",
]


@pytest.fixture(scope="module")
def tiny_export(tiny_reranker: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    source, export = source_of(tiny_reranker, "reranking"), tmp_path_factory.mktemp("cache") / "tiny"
    conversion.convert(tiny_reranker, source, export, "reranking")
    return ModelFiles(str(tiny_reranker), source, str(export))


def test_converted_scores_are_near_the_reference(tiny_export: ModelFiles) -> None:
    theirs = open_reranker(ModelFiles(tiny_export.path, tiny_export.source, None)).rerank(QUERY, TEXTS)
    ours = open_reranker(tiny_export).rerank(QUERY, TEXTS)
    assert ours.shape == (len(TEXTS),)
    assert np.ptp(theirs) > 0.1  # the scores differ, so that agreement means something
    assert np.max(np.abs(ours - theirs)) < 0.1 * np.ptp(theirs)


def test_a_pair_s_score_does_not_depend_on_the_batch(tiny_export: ModelFiles) -> None:
    reranker = open_reranker(tiny_export, 2)
    together = reranker.rerank(QUERY, TEXTS)
    assert np.array_equal([reranker.rerank(QUERY, [text])[0] for text in TEXTS], together)
    assert reranker.rerank(QUERY, []).shape == (0,)


def test_the_encoder_process_reranks_and_embeds_concurrently(tiny_export: ModelFiles, minilm: ModelFiles) -> None:
    expected = open_reranker(tiny_export).rerank(QUERY, TEXTS)

    async def scenario() -> None:
        async with open_encoder(minilm, tiny_export, num_threads=1) as client:
            assert client.ready.has_reranker
            assert client.ready.has_probabilities
            pair_scores = await client.score_pairs(QUERY, TEXTS)
            assert np.array_equal(pair_scores.scores, expected)
            assert pair_scores.num_tokens == sum(open_reranker(tiny_export).count_tokens(QUERY, TEXTS))
            scores, vectors, reversed_scores = await asyncio.gather(
                client.rerank(QUERY, TEXTS), client.embed_queries([QUERY]), client.rerank(QUERY, TEXTS[::-1])
            )
            assert np.array_equal(scores, expected)
            assert np.array_equal(reversed_scores, expected[::-1])
            assert vectors.shape == (1, client.ready.dimension)

    asyncio.run(scenario())


def test_both_runtimes_count_the_same_tokens(tiny_export: ModelFiles) -> None:
    ours, theirs = open_reranker(tiny_export), open_reranker(ModelFiles(tiny_export.path, tiny_export.source, None))
    counts = ours.count_tokens(QUERY, TEXTS)
    assert counts == theirs.count_tokens(QUERY, TEXTS)
    assert (max(counts), ours.count_tokens(QUERY, [])) == (64, [])  # the fifth is longer than the model reads


def test_has_probabilities_tells_logits_from_probabilities(
    tiny_reranker: Path, tiny_export: ModelFiles, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    logits = CrossEncoder(str(tiny_reranker), device="cpu", activation_fn=Identity())
    logits.save_pretrained(str(tmp_path / "logits"))
    source = source_of(tmp_path / "logits", "reranking")
    conversion.convert(tmp_path / "logits", source, tmp_path / "export", "reranking")
    ours = open_reranker(ModelFiles(str(tmp_path / "logits"), source, str(tmp_path / "export")))
    assert not ours.has_probabilities
    probabilities = open_reranker(tiny_export)
    assert probabilities.has_probabilities
    sigmoid = 1 / (1 + np.exp(-ours.rerank(QUERY, TEXTS)))
    assert np.allclose(sigmoid, probabilities.rerank(QUERY, TEXTS), atol=0.05)  # one may be int8


def test_a_model_with_several_labels_is_refused_as_a_reranker(tiny_reranker: Path, tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(tiny_reranker, num_labels=3, ignore_mismatched_sizes=True)
    folder = shutil.copytree(tiny_reranker, tmp_path / "three")
    model.save_pretrained(folder)
    with pytest.raises(ModelFileError, match="3 numbers a pair"):
        open_reranker(ModelFiles(str(folder), "0", None))


def test_a_broken_reranker_fails_the_start_with_a_one_line_reason(minilm: ModelFiles, tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(ProcessFailed, match=tmp_path.name) as caught:
            async with open_encoder(minilm, ModelFiles("", "0", str(tmp_path))):
                pass
        assert "\n" not in caught.value.reason

    asyncio.run(scenario())
