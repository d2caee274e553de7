import numpy as np
import pytest

from index.types import Vectors
from index.vectors import Ids, VectorIndex, serialize_flat

_DIMENSION = 16


def _vectors(random: np.random.Generator, count: int) -> Vectors:
    vectors: Vectors = random.normal(size=(count, _DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _ids(*ids: int) -> Ids:
    return np.array(ids, np.int64)


def _nearest(stored: dict[int, Vectors], query: Vectors, k: int, allowed: set[int] | None) -> list[tuple[int, float]]:
    """The oracle: every cosine computed, the best taken."""
    hits = [(id, float(vector @ query)) for id, vector in stored.items() if allowed is None or id in allowed]
    return sorted(hits, key=lambda hit: -hit[1])[:k]


@pytest.mark.parametrize("num_base", [None, 0, 40])
@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_changes_searches_like_brute_force(seed: int, num_base: int | None) -> None:
    random = np.random.default_rng(seed)
    stored: dict[int, Vectors] = {}
    payload = None
    if num_base is not None:
        stored = dict(enumerate(_vectors(random, num_base)))
        payload = serialize_flat(_ids(*stored), np.array(list(stored.values())).reshape(-1, _DIMENSION))
    index = VectorIndex(_DIMENSION, payload)
    for _ in range(60):
        some = random.choice(80, size=random.integers(0, 12), replace=False).astype(np.int64)
        match random.integers(4):
            case 0:
                vectors = _vectors(random, len(some))
                index.add(some, vectors)
                stored = dict(zip(some.tolist(), vectors, strict=True)) | stored
            case 1:
                index.remove(some.tolist())
                stored = {id: vector for id, vector in stored.items() if id not in some}
            case _:
                (query,) = _vectors(random, 1)
                k = int(random.integers(1, 100))
                for allowed in (None, some, _ids(), random.permutation(90)[:45].astype(np.int64)):
                    hits = index.search(query, k, allowed)
                    expected = _nearest(stored, query, k, None if allowed is None else set(allowed.tolist()))
                    assert [id for id, _ in hits] == [id for id, _ in expected]
                    assert np.allclose([score for _, score in hits], [score for _, score in expected], atol=1e-5)
        assert len(index) == len(stored)
        assert {id for id in range(90) if id in index} == stored.keys()


def test_an_id_that_is_there_keeps_its_vector() -> None:
    first, second = np.eye(_DIMENSION, dtype=np.float32)[:2]
    for index in (VectorIndex(_DIMENSION), VectorIndex(_DIMENSION, serialize_flat(_ids(7), first[None]))):
        index.add(_ids(7), first[None])
        index.add(_ids(7), second[None])
        assert index.search(first, 5) == [(7, 1.0)]


def test_removing_what_is_not_there_changes_nothing() -> None:
    (vector,) = _vectors(np.random.default_rng(0), 1)
    index = VectorIndex(_DIMENSION, serialize_flat(_ids(1), vector[None]))
    index.remove([2, 3])
    index.remove([])
    assert len(index) == 1


def test_an_empty_index_finds_nothing() -> None:
    (query,) = _vectors(np.random.default_rng(0), 1)
    empty = np.empty((0, _DIMENSION), np.float32)
    for index in (VectorIndex(_DIMENSION), VectorIndex(_DIMENSION, serialize_flat(_ids(), empty))):
        index.add(_ids(), empty)
        assert len(index) == 0
        assert index.search(query, 5) == index.search(query, 5, _ids(1)) == []
