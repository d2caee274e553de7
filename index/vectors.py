"""Dense search: a FAISS generation that never changes, a delta of what is newer, tombstones for what is gone.

The only module that imports faiss. Vectors are unit vectors, so inner product is cosine.
"""

from collections.abc import Iterable

import faiss
import numpy as np
from numpy.typing import NDArray

from index.types import Vectors

Ids = NDArray[np.int64]


def serialize_flat(ids: Ids, vectors: Vectors) -> bytes:
    """An exact index over these vectors, as a generation's payload."""
    return bytes(faiss.serialize_index(_flat(ids, vectors)))


def _flat(ids: Ids, vectors: Vectors) -> faiss.IndexIDMap2:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    if len(ids):
        index.add_with_ids(np.ascontiguousarray(vectors), ids)
    return index


class VectorIndex:
    """In memory, for one thread at a time."""

    def __init__(self, dimension: int, payload: bytes | None = None) -> None:
        """Empty, or a generation's payload, which must have been verified: FAISS trusts what it reads."""
        self._dimension = dimension
        empty = np.empty(0, np.int64), np.empty((0, dimension), np.float32)
        self._base = faiss.deserialize_index(np.frombuffer(payload, np.uint8)) if payload else _flat(*empty)
        self._base_ids = set(faiss.vector_to_array(self._base.id_map).tolist())
        self._tombstones: set[int] = set()
        self._delta = _flat(*empty)
        self._delta_ids: set[int] = set()

    def __len__(self) -> int:
        return len(self._base_ids) - len(self._tombstones) + len(self._delta_ids)

    def __contains__(self, id: int) -> bool:
        return id in self._delta_ids or (id in self._base_ids and id not in self._tombstones)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Ids that are here already are left as they are: a chunk never changes under its id."""
        fresh = np.fromiter((id not in self for id in ids.tolist()), bool, len(ids))
        if fresh.any():
            self._delta.add_with_ids(np.ascontiguousarray(vectors[fresh]), ids[fresh])
            self._delta_ids.update(ids[fresh].tolist())

    def remove(self, ids: Iterable[int]) -> None:
        """Ids that are not here are ignored."""
        gone = set(ids)
        self._tombstones |= gone & self._base_ids
        if in_delta := gone & self._delta_ids:
            self._delta.remove_ids(np.fromiter(in_delta, np.int64, len(in_delta)))
            self._delta_ids -= in_delta

    def search(self, query: Vectors, k: int, allowed: Ids | None = None) -> list[tuple[int, float]]:
        """The `k` nearest to one query vector, best first, as (id, cosine); among `allowed`, when given."""
        selectors = [] if allowed is None else [faiss.IDSelectorBatch(allowed)]
        dead = np.fromiter(self._tombstones, np.int64, len(self._tombstones))
        hits = self._search(self._delta, query, k, selectors)
        if len(dead):
            selectors = [*selectors, faiss.IDSelectorNot(faiss.IDSelectorBatch(dead))]
        hits += self._search(self._base, query, k, selectors)
        return sorted(hits, key=lambda hit: -hit[1])[:k]

    def _search(
        self, index: faiss.Index, query: Vectors, k: int, selectors: list[faiss.IDSelector]
    ) -> list[tuple[int, float]]:
        if not index.ntotal:
            return []
        parameters = None
        if selectors:
            chosen = selectors[0] if len(selectors) == 1 else faiss.IDSelectorAnd(*selectors)
            parameters = faiss.SearchParameters(sel=chosen)
        scores, ids = index.search(query.reshape(1, self._dimension), min(k, index.ntotal), params=parameters)
        return [(int(id), float(score)) for id, score in zip(ids[0], scores[0], strict=True) if id >= 0]
