"""The real embedding model: its int8 form against sentence-transformers."""

import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.encoder.embedder import Vectors, open_embedder
from models.encoder.messages import ModelFiles
from models.errors import ModelFileError

pytestmark = pytest.mark.timeout(120)

MANUAL = Path(__file__).parents[2] / "eval" / "manual"  # which stays as it is


def paragraphs() -> list[str]:
    return [part for page in sorted(MANUAL.glob("*.md")) for part in page.read_text().split("\n\n")][:60]


def test_int8_is_near_the_reference_and_ranks_like_it(minilm: ModelFiles) -> None:
    converted, reference = open_embedder(minilm), open_embedder(ModelFiles(minilm.path, minilm.source, None))
    texts = paragraphs()
    ours, theirs = converted.embed_documents(texts), reference.embed_documents(texts)
    assert np.min(np.sum(ours * theirs, axis=1)) > 0.98
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    exact = cosines(theirs)
    chosen = exact[np.arange(len(texts)), cosines(ours).argmax(axis=1)]
    assert np.max(exact.max(axis=1) - chosen) < 0.05  # the nearest by int8 is as good as the nearest
    assert converted.fingerprint != reference.fingerprint  # another space, never mixed
    assert (converted.dimension, converted.max_tokens) == (reference.dimension, reference.max_tokens)
    assert converted.room("query") == reference.room("query") == converted.max_tokens - 2
    for text in [*texts, string.printable, "naïve 你好 🙂", " ", "word " * 1000]:
        assert converted.count_tokens(text) == reference.count_tokens(text)


def cosines(vectors: Vectors) -> Vectors:
    """Between all texts; a text is not near itself."""
    found: Vectors = vectors @ vectors.T
    np.fill_diagonal(found, -1)
    return found


def test_a_vector_is_the_text_s_alone(minilm: ModelFiles) -> None:
    """Whatever it is embedded with, in whatever order, on however many threads, and from several at once."""
    one, many = open_embedder(minilm, 1), open_embedder(minilm, 3)
    texts = paragraphs()[:12]
    alone = np.concatenate([one.embed_documents([text]) for text in texts])
    assert np.array_equal(many.embed_documents(texts), alone)
    assert np.array_equal(many.embed_documents(texts[::-1]), alone[::-1])
    assert np.array_equal(many.embed_documents(texts, low_priority=True), alone)
    with ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(many.embed_documents, [texts] * 8):
            assert np.array_equal(vectors, alone)


def test_a_conversion_that_was_altered_is_not_loaded(minilm: ModelFiles, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="altered or removed"):
        open_embedder(ModelFiles(minilm.path, minilm.source, str(tmp_path)))
