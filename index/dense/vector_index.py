"""Dense search: an immutable base, a delta of newer vectors, and a bitmap of removed ones.

Vectors are unit vectors, so inner product is cosine. The encoding of the base follows from its size: exact; 8 bits a
dimension; 1 bit a dimension (RaBitQ), scanned whole, since a list that is not probed loses its vectors for good. An
encoding that is not exact only finds candidates. They are scored again by their float16 vectors, which stay on disk.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from index.dense.base_index import BaseBuilder, BaseIndex
from index.dense.codes import Bits, pack_bits, rotate, search_codes
from index.dense.stored_vectors import StoredVectors
from index.storage.vectors import ChunkVectors
from index.types import Hits, Ids, Vectors

T = TypeVar("T", bound=np.generic)

_RESCORED = 300  # candidates; of 1,000,000 vectors: recall@10 .974; .985 with 500
_RESCORED_OF_SOME = 1000  # with a filter, since the ten best lie further apart: .968 with 500


class VectorIndex:
    """A vector index in memory, for one thread at a time. Owns threads of its own; whoever opens it closes it."""

    def __init__(
        self, dimension: int, payload: bytes | memoryview | None = None, stored_vectors: StoredVectors | None = None
    ) -> None:
        """Open a base from its verified payload and stored vectors, which the index then owns; None: an empty base."""
        self._dimension = dimension
        self._stored_vectors = stored_vectors
        if payload is None:
            payload = b"".join(BaseBuilder(dimension, 0, np.empty((0, dimension), np.float32), "exact").payload())
        self._base = BaseIndex(memoryview(payload))
        self._alive = pack_bits(np.ones(len(self._base), bool))
        self._num_removed = 0
        self._scopes: dict[tuple[int, ...], Bits] = {}  # by collections: their positions that are alive
        self._delta = faiss.IndexFlatIP(dimension)
        self._slots: dict[int, int] = {}  # chunk id: position in the delta
        self._delta_ids = np.empty(0, np.int64)  # with room to grow, like the next two
        self._delta_collections = np.empty(0, np.int32)
        self._delta_alive = np.empty(0, bool)
        num_threads = min(len(self._base.shards), os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(num_threads, "vectors", initializer=faiss.omp_set_num_threads, initargs=(1,))

    def close(self) -> None:
        self._threads.shutdown()
        if self._stored_vectors is not None:
            self._stored_vectors.close()

    def __len__(self) -> int:
        return len(self._base) - self._num_removed + len(self._slots)

    def __contains__(self, id: int) -> bool:
        return id in self._slots or bool(self._in_base(np.array([id], np.int64))[0])

    @property
    def kind(self) -> str:
        return self._base.kind

    @property
    def num_beside(self) -> int:
        """Return the number of vectors that a new base would take in or leave out."""
        return int(self._delta.ntotal) + self._num_removed

    def _in_base(self, ids: Ids) -> NDArray[np.bool_]:
        is_present = self._base.contains(ids)
        positions = np.searchsorted(self._base.ids, ids[is_present])
        is_present[is_present] = (self._alive[positions >> 3] >> (positions & 7).astype(np.uint8)) & 1 > 0
        return is_present

    def add(self, block: ChunkVectors) -> None:
        """Add vectors. Ids that are present stay as they are, since a chunk never changes under its id."""
        _, first = np.unique(block.ids, return_index=True)
        block = ChunkVectors(block.ids[first], block.collections[first], block.vectors[first])
        is_known = self._in_base(block.ids) | np.fromiter((id in self._slots for id in block.ids.tolist()), bool)
        block = block.take(~is_known)
        if not len(block.ids):
            return
        start, stop = self._delta.ntotal, self._delta.ntotal + len(block.ids)
        self._delta.add(np.ascontiguousarray(block.vectors))
        self._delta_ids = _append(self._delta_ids, start, block.ids)
        self._delta_collections = _append(self._delta_collections, start, block.collections.astype(np.int32))
        self._delta_alive = _append(self._delta_alive, start, np.ones(len(block.ids), bool))
        self._slots.update(zip(block.ids.tolist(), range(start, stop), strict=True))

    def remove(self, ids: Iterable[int]) -> None:
        """Remove the vectors with these ids; ids that are not present are ignored."""
        removed = np.unique(np.fromiter(ids, np.int64))
        positions = np.searchsorted(self._base.ids, removed[self._in_base(removed)])
        bits = ~(np.uint8(1) << (positions & 7).astype(np.uint8))
        for bitmap in (self._alive, *self._scopes.values()):
            np.bitwise_and.at(bitmap, positions >> 3, bits)
        self._num_removed += len(positions)
        for id in removed.tolist():
            if (slot := self._slots.pop(id, None)) is not None:
                self._delta_alive[slot] = False

    def search(self, query: Vectors, k: int, collections: Sequence[int] | None = None, only: Ids | None = None) -> Hits:
        """Return the `k` chunks nearest to one query vector with their cosines, best first; of these collections and
        among these chunk ids, where given."""
        faiss.omp_set_num_threads(1)  # of this thread: a team that spins would take the chat's cores
        scope = None if collections is None else tuple(sorted(collections))
        hits = self._search_delta(query, k, scope, only) + self._search_base(query, k, scope, only)
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]

    def _search_delta(self, query: Vectors, k: int, scope: tuple[int, ...] | None, only: Ids | None) -> Hits:
        if not (total := self._delta.ntotal) or k <= 0:
            return []
        is_wanted = self._delta_alive[:total]
        if scope is not None:
            is_wanted = is_wanted & np.isin(self._delta_collections[:total], scope)
        if only is not None:
            is_wanted = is_wanted & np.isin(self._delta_ids[:total], only)
        scores, slots = search_codes(self._delta, query, k, None if is_wanted.all() else pack_bits(is_wanted))
        return list(zip(self._delta_ids[slots].tolist(), scores.tolist(), strict=True))

    def _search_base(self, query: Vectors, k: int, scope: tuple[int, ...] | None, only: Ids | None) -> Hits:
        if not len(self._base) or k <= 0:
            return []
        bits = self._positions(scope)
        if only is not None:
            among = pack_bits(np.isin(self._base.ids, only))
            bits = among if bits is None else bits & among
        num_rescored = _RESCORED if scope is None and only is None else _RESCORED_OF_SOME
        num_candidates = k if self._stored_vectors is None else max(num_rescored, 3 * k)
        scores, positions = self._search_shards(query, num_candidates, bits)
        if self._stored_vectors is not None:
            scores = self._stored_vectors.fetch(positions, self._dimension) @ query
        return list(zip(self._base.ids[positions].tolist(), scores.tolist(), strict=True))

    def _search_shards(self, query: Vectors, k: int, bits: Bits | None) -> tuple[Vectors, Ids]:
        """Return scores and positions of the `k` best in the base."""
        rotated = rotate(query.reshape(1, -1), self._base.rotation)[0]

        def search(shard: int) -> tuple[Vectors, Ids]:
            start = shard * self._base.shard_size
            scores, positions = search_codes(
                self._base.shards[shard], rotated, k, None if bits is None else bits[start // 8 :]
            )
            return scores, positions + start

        hits = list(self._threads.map(search, range(len(self._base.shards))))
        scores = np.concatenate([scores for scores, _ in hits])
        positions = np.concatenate([positions for _, positions in hits])
        best = np.argsort(-scores, kind="stable")[:k]
        return scores[best], positions[best]

    def _positions(self, scope: tuple[int, ...] | None) -> Bits | None:
        """Return a bitmap of the positions to search; None for all."""
        if scope is None:
            return self._alive if self._num_removed else None
        if (bits := self._scopes.get(scope)) is None:
            bits = self._scopes[scope] = pack_bits(np.isin(self._base.collections, scope)) & self._alive
        return bits


def _append(column: NDArray[T], size: int, values: NDArray[T]) -> NDArray[T]:
    """Return the column with `values` after its first `size`; room doubles, so that adding one at a time is cheap."""
    if size + len(values) > len(column):
        column = np.concatenate([column[:size], np.empty(size + 2 * len(values), column.dtype)])
    column[size : size + len(values)] = values
    return column
