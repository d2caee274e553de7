from itertools import pairwise

import numpy as np
import pytest

from index.dense.base_index import BaseBuilder
from index.dense.codes import Kind, kind_for
from index.dense.vector_index import VectorIndex
from index.storage.vectors import ChunkVectors
from index.types import Ids, Vectors

_DIMENSION = 32
_KINDS: list[Kind] = ["exact", "scalar", "binary"]
_COLLECTIONS = 3


def _vectors(random: np.random.Generator, count: int) -> Vectors:
    vectors: Vectors = random.normal(size=(count, _DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _chunk_vectors(ids: Ids, vectors: Vectors) -> ChunkVectors:
    """Return chunks whose collection follows from their id."""
    return ChunkVectors(ids, ids % _COLLECTIONS, vectors)


def _ids(*ids: int) -> Ids:
    return np.array(ids, np.int64)


def _index(stored: ChunkVectors, kind: Kind, blocks: int = 3) -> VectorIndex:
    builder = BaseBuilder(_DIMENSION, len(stored.ids), stored.vectors, kind)
    edges = [round(at) for at in np.linspace(0, len(stored.ids), blocks + 1)]
    for start, stop in pairwise(edges):
        builder.add(stored.take(slice(start, stop)))
    return VectorIndex(_DIMENSION, b"".join(builder.payload()), builder.stored_vectors())


def _all(vectors: dict[int, Vectors]) -> ChunkVectors:
    ids = _ids(*sorted(vectors))
    return _chunk_vectors(ids, np.array([vectors[id] for id in ids.tolist()], np.float32).reshape(-1, _DIMENSION))


def _nearest(vectors: dict[int, Vectors], query: Vectors, k: int, scope: list[int] | None) -> list[tuple[int, float]]:
    """Compute every cosine and return the best: the oracle."""
    hits = [(id, float(v @ query)) for id, v in vectors.items() if scope is None or id % _COLLECTIONS in scope]
    return sorted(hits, key=lambda hit: -hit[1])[:k]


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("num_base", [0, 1, 40])
@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_of_changes_searches_like_brute_force(seed: int, num_base: int, kind: Kind) -> None:
    random = np.random.default_rng(seed)
    known: dict[int, Vectors] = dict(enumerate(_vectors(random, num_base)))
    ever = dict(known)
    index = _index(_all(known), kind)
    for _ in range(60):
        some = random.choice(80, size=random.integers(0, 12), replace=False).astype(np.int64)
        match random.integers(5):
            case 0:
                new = [id for id in some.tolist() if id not in ever]  # an id is never used twice
                vectors = dict(zip(new, _vectors(random, len(new)), strict=True))
                index.add(_chunk_vectors(_ids(*new), np.array(list(vectors.values())).reshape(-1, _DIMENSION)))
                known |= vectors
                ever |= vectors
            case 1:
                index.remove(some.tolist())
                known = {id: vector for id, vector in known.items() if id not in some}
            case 2 if random.random() < 0.3:
                index.close()
                index = _index(_all(known), kind)
                assert index.num_beside == 0
            case _:
                (query,) = _vectors(random, 1)
                k = int(random.integers(1, 100))
                for scope in (None, [0], [1, 2], [], [0, 1, 2], [7]):
                    hits = index.search(query, k, scope)
                    expected = _nearest(known, query, k, scope)
                    told, best = (np.array([score for _, score in each]) for each in (hits, expected))
                    assert np.allclose(told, best, atol=1e-3), "float16 is exact to about three digits"
                    assert np.allclose(told, [known[id] @ query for id, _ in hits], atol=1e-3)
                    assert len({id for id, _ in hits}) == len(hits)
                    only = np.unique(random.integers(0, 90, int(random.integers(0, 60))))
                    chosen = {id: vector for id, vector in known.items() if id in only}
                    limited = [score for _, score in index.search(query, k, scope, only)]
                    assert np.allclose(limited, [score for _, score in _nearest(chosen, query, k, scope)], atol=1e-3)
        assert len(index) == len(known)
        assert {id for id in range(90) if id in index} == known.keys()
    index.close()


@pytest.mark.parametrize("kind", _KINDS)
def test_shards_together_are_one_index(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.dense.base_index._SHARD", 100)
    random = np.random.default_rng(1)
    known = dict(zip(range(5, 4005, 4), _vectors(random, 1000), strict=True))
    index = _index(_all(known), kind, blocks=7)
    gone = random.choice(list(known), 300, replace=False).tolist()
    index.search(known[5], 5, [1])  # a scope that is known before something goes
    index.remove(gone)
    known = {id: vector for id, vector in known.items() if id not in gone}
    recalls = []
    for query in _vectors(random, 20):
        for scope in (None, [1]):
            hits = [id for id, _ in index.search(query, 10, scope)]
            expected = [id for id, _ in _nearest(known, query, 10, scope)]
            assert set(hits) <= known.keys()
            recalls.append(len(set(hits) & set(expected)) / 10)
    assert np.mean(recalls) >= (1 if kind == "exact" else 0.95)
    index.close()


def test_the_encoding_follows_from_the_number_of_vectors() -> None:
    sizes = [0, 50_000, 50_001, 100_000, 100_001, 10**7]
    assert [kind_for(size) for size in sizes] == ["exact", "exact", "scalar", "scalar", "binary", "binary"]


@pytest.mark.parametrize("num_vectors", [0, 3, 64, 500])
def test_a_wrong_count_gives_a_correct_index(num_vectors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.dense.base_index._SHARD", 50)
    known = dict(enumerate(_vectors(np.random.default_rng(2), 100)))
    builder = BaseBuilder(_DIMENSION, num_vectors, np.empty((0, _DIMENSION), np.float32), "exact")
    builder.add(_all(known))
    index = VectorIndex(_DIMENSION, b"".join(builder.payload()))
    assert [id for id, _ in index.search(known[99], 1)] == [99]
    assert len(index) == 100
    index.close()


def test_an_id_that_is_present_keeps_its_vector() -> None:
    first, second = np.eye(_DIMENSION, dtype=np.float32)[:2]
    for index in (VectorIndex(_DIMENSION), _index(_chunk_vectors(_ids(7), first[None]), "exact")):
        index.add(_chunk_vectors(_ids(7, 7), np.array([first, second])))
        index.add(_chunk_vectors(_ids(7), second[None]))
        assert index.search(first, 5) == [(7, 1.0)]
        index.close()
