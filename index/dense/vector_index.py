"""Dense search: a base that never changes, a delta of what is newer, a bitmap of what is gone.

The only module that imports faiss. Vectors are unit vectors, so inner product is cosine. The kind of the base follows
from its size: exact; 8 bits a dimension; 1 bit a dimension (RaBitQ), scanned whole, since a list that is not probed
loses its vectors for good. Whatever is not exact only names candidates, which are scored again by their vectors. Those
stay on disk, float16, in the order of the base.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Literal, NamedTuple, Self, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from index.types import Vectors

Ids = NDArray[np.int64]
Bits = NDArray[np.uint8]
Kind = Literal["exact", "scalar", "binary"]
T = TypeVar("T", bound=np.generic)

_MAX_EXACT, _MAX_SCALAR = 50_000, 100_000  # vectors; beyond, scanning takes more than the 5 ms it may
_SHARD = 25_000  # vectors worth a thread's start
_MAX_SHARDS = 4
_ALIGNMENT = 32  # a shard's part of a bitmap starts at a whole byte, and its codes at a whole block
_RESCORED = 300  # of 1,000,000: recall@10 .974; .985 with 500
_RESCORED_OF_SOME = 1000  # where a filter leaves fewer, the best ten lie further away: .968 with 500
_LITTLE, _HALF = np.dtype("<i8"), np.dtype("<f2")
_BLOCK = 1 << 20  # bytes


class Stored(NamedTuple):
    """Chunks with their vectors, parallel arrays: chunk id, collection id, vector."""

    ids: Ids
    collections: Ids
    vectors: Vectors

    def take(self, chosen: NDArray[np.bool_] | slice) -> "Stored":
        return Stored(self.ids[chosen], self.collections[chosen], self.vectors[chosen])


class StoredVectors:
    """The base's vectors, by position, in a file: `size` bytes of float16 from `offset` on. Owns the file.

    Read by `pread`, not mapped: a file that is cut while it is open is a short read and not the end of the process.
    """

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self.size = size

    def fetch(self, positions: Ids, dimension: int) -> Vectors:
        """Unit vectors, one a position; zeros where the file has none."""
        width, descriptor = dimension * _HALF.itemsize, self._file.fileno()
        rows = (os.pread(descriptor, width, self._offset + at * width) for at in positions.tolist())
        joined = b"".join(row.ljust(width, b"\0") for row in rows)
        return unit(np.frombuffer(joined, _HALF).reshape(len(positions), dimension))

    def blocks(self) -> Iterator[bytes]:
        """All of it, in order."""
        for start in range(0, self.size, _BLOCK):
            yield os.pread(self._file.fileno(), min(_BLOCK, self.size - start), self._offset + start)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unit(vectors: NDArray[np.float16]) -> Vectors:
    """Rows of length one, as float32."""
    rows: Vectors = vectors.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return rows


def kind_for(count: int) -> Kind:
    if count <= _MAX_EXACT:
        return "exact"
    return "scalar" if count <= _MAX_SCALAR else "binary"


class BaseBuilder:
    """Takes the vectors in blocks, so that they are never in memory at once."""

    def __init__(
        self, dimension: int, count: int, sample: Vectors, kind: Kind | None = None, folder: Path | None = None
    ) -> None:
        """`count` is how many will come, in ascending order of id; `sample`, some of them, teaches the codes. What is
        too much for memory goes to a nameless file in `folder`."""
        faiss.omp_set_num_threads(1)  # of this thread
        self._kind: Kind = kind or kind_for(count)
        self._rotation = _rotation(dimension) if self._kind == "binary" else None
        num_shards = min(_MAX_SHARDS, max(1, count // _SHARD))
        self._shard_size = -(-count // (num_shards * _ALIGNMENT)) * _ALIGNMENT or _ALIGNMENT
        sample = _turned(sample, self._rotation) if len(sample) else np.zeros((1, dimension), np.float32)
        self._shards = [_codes(self._kind, dimension, sample) for _ in range(num_shards)]
        self._columns: list[list[Ids]] = [[], []]
        self._count = 0
        self._spool = None if self._kind == "exact" else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def add(self, stored: Stored) -> None:
        for column, values in zip(self._columns, stored[:2], strict=True):
            column.append(values)
        if self._spool is not None:
            self._spool.write(stored.vectors.astype(_HALF).tobytes())
        vectors = _turned(stored.vectors, self._rotation)
        while len(vectors):
            shard = min(self._count // self._shard_size, len(self._shards) - 1)
            is_last = shard == len(self._shards) - 1
            room = len(vectors) if is_last else (shard + 1) * self._shard_size - self._count
            self._shards[shard].add(vectors[:room])
            self._count += len(vectors[:room])
            vectors = vectors[room:]

    @property
    def count(self) -> int:
        return self._count

    def stored(self) -> StoredVectors | None:
        """The vectors that a base of this kind needs beside its payload. Closing them, or this, closes both."""
        if self._spool is None:
            return None
        self._spool.flush()
        return StoredVectors(self._spool, 0, self._spool.tell())

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def payload(self) -> list[bytes]:
        """What is kept of it in memory, in parts."""
        columns = [np.concatenate([*column, np.empty(0, np.int64)]) for column in self._columns]
        rotation = b"" if self._rotation is None else self._rotation.astype("<f4").tobytes()
        sections = [
            self._kind.encode(),
            *(column.astype(_LITTLE).tobytes() for column in columns),
            rotation,
            *(bytes(faiss.serialize_index(shard)) for shard in self._shards),
        ]
        sizes = np.array([len(sections), self._shard_size, *map(len, sections)], _LITTLE)
        return [sizes.tobytes(), *sections]


class _Base:
    """An immutable index over positions 0..n, in ascending order of chunk id."""

    def __init__(self, payload: memoryview) -> None:
        """A generation's payload, which must have been verified: FAISS trusts what it reads."""
        num_sections, self.shard_size = map(int, np.frombuffer(payload[:16], _LITTLE))
        sizes = np.frombuffer(payload[16 : 16 + 8 * num_sections], _LITTLE)
        ends = 16 + 8 * num_sections + np.cumsum(sizes)
        sections = [payload[end - size : end] for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)]
        self.kind = bytes(sections[0]).decode()
        self.ids = np.frombuffer(sections[1], _LITTLE).astype(np.int64)
        self.collections = np.frombuffer(sections[2], _LITTLE).astype(np.int32)
        turn = np.frombuffer(sections[3], "<f4").astype(np.float32)
        self.rotation = turn.reshape(int(len(turn) ** 0.5), -1) if len(turn) else None
        self.shards = [faiss.deserialize_index(np.frombuffer(part, np.uint8)) for part in sections[4:]]

    def contains(self, ids: Ids) -> NDArray[np.bool_]:
        if not len(self.ids):
            return np.zeros(len(ids), bool)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        found: NDArray[np.bool_] = self.ids[at] == ids
        return found


class VectorIndex:
    """In memory, for one thread at a time. Opens threads of its own; whoever opened it closes it."""

    def __init__(
        self, dimension: int, payload: bytes | memoryview | None = None, stored: StoredVectors | None = None
    ) -> None:
        """Empty, or from what a `BaseBuilder` made, which must have been verified. Takes `stored` over."""
        self._dimension = dimension
        self._stored = stored
        if payload is None:
            payload = b"".join(BaseBuilder(dimension, 0, np.empty((0, dimension), np.float32), "exact").payload())
        self._base = _Base(memoryview(payload))
        self._alive = _packed(np.ones(len(self._base.ids), bool))
        self._num_gone = 0
        self._scopes: dict[tuple[int, ...], Bits] = {}  # positions of these collections that are alive
        self._delta = faiss.IndexFlatIP(dimension)
        self._slots: dict[int, int] = {}  # chunk id to position in the delta
        self._delta_ids = np.empty(0, np.int64)  # with room to grow, like the next two
        self._delta_collections = np.empty(0, np.int32)
        self._delta_alive = np.empty(0, bool)
        workers = min(len(self._base.shards), os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(workers, "vectors", initializer=faiss.omp_set_num_threads, initargs=(1,))

    def close(self) -> None:
        self._threads.shutdown()
        if self._stored is not None:
            self._stored.close()

    def __len__(self) -> int:
        return len(self._base.ids) - self._num_gone + len(self._slots)

    def __contains__(self, id: int) -> bool:
        return id in self._slots or bool(self._in_base(np.array([id], np.int64))[0])

    @property
    def kind(self) -> str:
        return self._base.kind

    @property
    def num_beside(self) -> int:
        """Vectors that a new base would take in or leave out."""
        return int(self._delta.ntotal) + self._num_gone

    def _in_base(self, ids: Ids) -> NDArray[np.bool_]:
        there = self._base.contains(ids)
        at = np.searchsorted(self._base.ids, ids[there])
        there[there] = (self._alive[at >> 3] >> (at & 7).astype(np.uint8)) & 1 > 0
        return there

    def add(self, stored: Stored) -> None:
        """Ids that are here already are left as they are: a chunk never changes under its id."""
        _, first = np.unique(stored.ids, return_index=True)
        stored = Stored(stored.ids[first], stored.collections[first], stored.vectors[first])
        known = self._in_base(stored.ids) | np.fromiter((id in self._slots for id in stored.ids.tolist()), bool)
        stored = stored.take(~known)
        if not len(stored.ids):
            return
        start, stop = self._delta.ntotal, self._delta.ntotal + len(stored.ids)
        self._delta.add(np.ascontiguousarray(stored.vectors))
        self._delta_ids = _grown(self._delta_ids, start, stored.ids)
        self._delta_collections = _grown(self._delta_collections, start, stored.collections.astype(np.int32))
        self._delta_alive = _grown(self._delta_alive, start, np.ones(len(stored.ids), bool))
        self._slots.update(zip(stored.ids.tolist(), range(start, stop), strict=True))

    def remove(self, ids: Iterable[int]) -> None:
        """Ids that are not here are ignored."""
        gone = np.unique(np.fromiter(ids, np.int64))
        at = np.searchsorted(self._base.ids, gone[self._in_base(gone)])
        bits = ~(np.uint8(1) << (at & 7).astype(np.uint8))
        for bitmap in (self._alive, *self._scopes.values()):
            np.bitwise_and.at(bitmap, at >> 3, bits)
        self._num_gone += len(at)
        for id in gone.tolist():
            if (slot := self._slots.pop(id, None)) is not None:
                self._delta_alive[slot] = False

    def search(
        self, query: Vectors, k: int, collections: Sequence[int] | None = None, only: Ids | None = None
    ) -> list[tuple[int, float]]:
        """The `k` nearest to one query vector, best first, as (id, cosine); in these collections, and among these
        ids, when given."""
        faiss.omp_set_num_threads(1)  # of this thread: a team that spins would take the chat's cores
        scope = None if collections is None else tuple(sorted(collections))
        hits = self._search_delta(query, k, scope, only) + self._search_base(query, k, scope, only)
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]

    def _search_delta(
        self, query: Vectors, k: int, scope: tuple[int, ...] | None, only: Ids | None
    ) -> list[tuple[int, float]]:
        if not (total := self._delta.ntotal) or k <= 0:
            return []
        wanted = self._delta_alive[:total]
        if scope is not None:
            wanted = wanted & np.isin(self._delta_collections[:total], scope)
        if only is not None:
            wanted = wanted & np.isin(self._delta_ids[:total], only)
        scores, slots = _search_codes(self._delta, query, k, None if wanted.all() else _packed(wanted))
        return list(zip(self._delta_ids[slots].tolist(), scores.tolist(), strict=True))

    def _search_base(
        self, query: Vectors, k: int, scope: tuple[int, ...] | None, only: Ids | None
    ) -> list[tuple[int, float]]:
        if not len(self._base.ids) or k <= 0:
            return []
        wanted = self._wanted(scope)
        if only is not None:
            chosen = _packed(np.isin(self._base.ids, only))
            wanted = chosen if wanted is None else wanted & chosen
        turned = _turned(query.reshape(1, -1), self._base.rotation)[0]
        rescored = _RESCORED if scope is None and only is None else _RESCORED_OF_SOME
        num_candidates = k if self._stored is None else max(rescored, 3 * k)

        def search(shard: int) -> tuple[Vectors, Ids]:
            start = shard * self._base.shard_size
            bits = None if wanted is None else wanted[start // 8 :]
            scores, positions = _search_codes(self._base.shards[shard], turned, num_candidates, bits)
            return scores, positions + start

        found = list(self._threads.map(search, range(len(self._base.shards))))
        scores = np.concatenate([scores for scores, _ in found])
        positions = np.concatenate([positions for _, positions in found])
        best = np.argsort(-scores, kind="stable")[:num_candidates]
        scores, positions = scores[best], positions[best]
        if self._stored is not None:
            scores = self._stored.fetch(positions, self._dimension) @ query
        return list(zip(self._base.ids[positions].tolist(), scores.tolist(), strict=True))

    def _wanted(self, scope: tuple[int, ...] | None) -> Bits | None:
        """Bitmap of the positions to search; None for all."""
        if scope is None:
            return self._alive if self._num_gone else None
        if (bits := self._scopes.get(scope)) is None:
            bits = self._scopes[scope] = _packed(np.isin(self._base.collections, scope)) & self._alive
        return bits


def _search_codes(index: faiss.Index, query: Vectors, k: int, wanted: Bits | None) -> tuple[Vectors, Ids]:
    """Scores and positions of the `k` best whose bit is set."""
    selector = None if wanted is None else faiss.IDSelectorBitmap(wanted)
    if isinstance(index, faiss.IndexIVF):
        parameters = faiss.IVFSearchParameters(sel=selector, nprobe=1)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    if not index.ntotal:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores, positions = index.search(query.reshape(1, -1), min(k, index.ntotal), params=parameters)
    return scores[0][positions[0] >= 0], positions[0][positions[0] >= 0]


def _codes(kind: Kind, dimension: int, sample: Vectors) -> faiss.Index:
    metric = faiss.METRIC_INNER_PRODUCT
    match kind:
        case "exact":
            return faiss.IndexFlatIP(dimension)
        case "scalar":
            index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit, metric)
        case "binary":
            # One list, always probed: a flat scan, of the one kind of fast RaBitQ index that takes selectors.
            index = faiss.IndexIVFRaBitQFastScan(faiss.IndexFlatIP(dimension), dimension, 1, metric)
            index.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(sample))
    return index


def _rotation(dimension: int) -> Vectors:
    """One bit a dimension tells most when all dimensions matter alike. The same on every machine or not: it is kept."""
    random = np.random.default_rng(dimension)
    turn: Vectors = np.linalg.qr(random.standard_normal((dimension, dimension)))[0].astype(np.float32)
    return turn


def _turned(vectors: Vectors, rotation: Vectors | None) -> Vectors:
    turned: Vectors = vectors if rotation is None else vectors @ rotation
    return np.ascontiguousarray(turned, np.float32)


def _packed(mask: NDArray[np.bool_]) -> Bits:
    """Eight positions a byte, the lowest bit first, as FAISS reads them."""
    return np.packbits(mask, bitorder="little")


def _grown(column: NDArray[T], size: int, values: NDArray[T]) -> NDArray[T]:
    """With `values` after the first `size`; room doubles, so that adding one at a time stays cheap."""
    if size + len(values) > len(column):
        column = np.concatenate([column[:size], np.empty(size + 2 * len(values), column.dtype)])
    column[size : size + len(values)] = values
    return column
