"""The bundled embedding model: its int8 conversion against sentence-transformers."""

import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.encoder.embedder import Vectors, open_embedder
from models.encoder.messages import ModelFiles
from models.errors import ModelFileError

pytestmark = pytest.mark.timeout(120)

MANUAL = Path(__file__).parents[2] / "eval" / "manual"  # its text never changes


def paragraphs() -> list[str]:
    return [part for page in sorted(MANUAL.glob("*.md")) for part in page.read_text().split("\n\n")][:60]


def test_int8_vectors_are_near_the_reference_and_rank_alike(minilm: ModelFiles) -> None:
    converted, reference = open_embedder(minilm), open_embedder(ModelFiles(minilm.path, minilm.source, None))
    texts = paragraphs()
    ours, theirs = converted.embed_documents(texts), reference.embed_documents(texts)
    assert np.min(np.sum(ours * theirs, axis=1)) > 0.98
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    exact = cosines(theirs)
    cosines_of_nearest = exact[np.arange(len(texts)), cosines(ours).argmax(axis=1)]
    assert np.max(exact.max(axis=1) - cosines_of_nearest) < 0.05  # the nearest by int8 is as good as the nearest
    assert converted.fingerprint != reference.fingerprint  # another vector space
    assert (converted.dimension, converted.max_tokens) == (reference.dimension, reference.max_tokens)
    assert converted.max_text_tokens("query") == reference.max_text_tokens("query") == converted.max_tokens - 2
    for text in [*texts, string.printable, "naïve 你好 🙂", " ", "word " * 1000]:
        assert converted.count_tokens(text) == reference.count_tokens(text)


def cosines(vectors: Vectors) -> Vectors:
    """Return the cosines between all texts, with -1 on the diagonal."""
    matrix: Vectors = vectors @ vectors.T
    np.fill_diagonal(matrix, -1)
    return matrix


def test_a_text_s_vector_does_not_depend_on_batch_order_threads_or_priority(minilm: ModelFiles) -> None:
    one, many = open_embedder(minilm, 1), open_embedder(minilm, 3)
    texts = paragraphs()[:12]
    alone = np.concatenate([one.embed_documents([text]) for text in texts])
    assert np.array_equal(many.embed_documents(texts), alone)
    assert np.array_equal(many.embed_documents(texts[::-1]), alone[::-1])
    assert np.array_equal(many.embed_documents(texts, low_priority=True), alone)
    with ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(many.embed_documents, [texts] * 8):
            assert np.array_equal(vectors, alone)


def test_an_altered_conversion_is_refused(minilm: ModelFiles, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="altered or removed"):
        open_embedder(ModelFiles(minilm.path, minilm.source, str(tmp_path)))
