"""The immutable part of a vector index: built in blocks, kept as bytes, searched in shards."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from index.dense.codes import Kind, kind_for, new_codes, new_rotation, rotate
from index.dense.stored_vectors import StoredVectors
from index.storage.sqlite.vectors import VectorReader
from index.storage.vectors import STORED_TYPE, ChunkVectors
from index.types import Ids, Vectors

_SHARD = 25_000  # vectors worth a thread's start
_MAX_SHARDS = 4
_ALIGNMENT = 32  # a shard's part of a bitmap starts at a whole byte, and its codes at a whole block
_INT64 = np.dtype("<i8")


def build_base(
    vectors: VectorReader, spool_folder: Path, should_continue: Callable[[], bool] = lambda: True
) -> "BaseBuilder | None":
    """Return a base of all vectors, for the caller to close; None when `should_continue` returned False on the way.

    The caller holds a snapshot of the database.
    """
    with ExitStack() as stack:
        count, sample = vectors.count_chunks(), vectors.sample()
        builder = stack.enter_context(BaseBuilder(vectors.dimension, count, sample, folder=spool_folder))
        for block in vectors.blocks():
            if not should_continue():
                return None
            builder.add(block)
        stack.pop_all()
    return builder


class BaseBuilder:
    """Takes the vectors in blocks, so that they are never in memory at once. A context manager."""

    def __init__(
        self, dimension: int, count: int, sample: Vectors, kind: Kind | None = None, folder: Path | None = None
    ) -> None:
        """`count` is how many vectors will be added; `sample`, some of them, trains the codes.

        The exact vectors of a base of another kind go to an unnamed file in `folder`.
        """
        faiss.omp_set_num_threads(1)  # of this thread
        self._kind: Kind = kind or kind_for(count)
        self._rotation = new_rotation(dimension) if self._kind == "binary" else None
        num_shards = min(_MAX_SHARDS, max(1, count // _SHARD))
        self._shard_size = -(-count // (num_shards * _ALIGNMENT)) * _ALIGNMENT or _ALIGNMENT
        sample = rotate(sample, self._rotation) if len(sample) else np.zeros((1, dimension), np.float32)
        self._shards = [new_codes(self._kind, dimension, sample) for _ in range(num_shards)]
        self._ids: list[Ids] = []
        self._collections: list[Ids] = []
        self._count = 0
        self._spool = None if self._kind == "exact" else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def add(self, block: ChunkVectors) -> None:
        """Add vectors whose ids are greater than all before."""
        self._ids.append(block.ids)
        self._collections.append(block.collections)
        if self._spool is not None:
            self._spool.write(block.vectors.astype(STORED_TYPE).tobytes())
        vectors = rotate(block.vectors, self._rotation)
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

    def stored_vectors(self) -> StoredVectors | None:
        """Return the exact vectors, None for an exact base, which has them in its payload.

        Closing them or the builder closes both.
        """
        if self._spool is None:
            return None
        self._spool.flush()
        return StoredVectors(self._spool, 0, self._spool.tell())

    def payload(self) -> list[bytes]:
        """Return the part of the base that is kept in memory, as bytes to be joined."""
        ids, collections = (
            np.concatenate([*blocks, np.empty(0, np.int64)]) for blocks in (self._ids, self._collections)
        )
        rotation = b"" if self._rotation is None else self._rotation.astype("<f4").tobytes()
        sections = [
            self._kind.encode(),
            ids.astype(_INT64).tobytes(),
            collections.astype(_INT64).tobytes(),
            rotation,
            *(bytes(faiss.serialize_index(shard)) for shard in self._shards),
        ]
        sizes = np.array([len(sections), self._shard_size, *map(len, sections)], _INT64)
        return [sizes.tobytes(), *sections]

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BaseIndex:
    """Vectors by position, in ascending order of chunk id."""

    def __init__(self, payload: memoryview) -> None:
        """Read what `BaseBuilder.payload` returned. It must have been verified: FAISS trusts what it reads."""
        num_sections, self.shard_size = map(int, np.frombuffer(payload[:16], _INT64))
        sizes = np.frombuffer(payload[16 : 16 + 8 * num_sections], _INT64)
        ends = 16 + 8 * num_sections + np.cumsum(sizes)
        sections = [payload[end - size : end] for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)]
        self.kind = bytes(sections[0]).decode()
        self.ids = np.frombuffer(sections[1], _INT64).astype(np.int64)
        self.collections = np.frombuffer(sections[2], _INT64).astype(np.int32)
        rotation = np.frombuffer(sections[3], "<f4").astype(np.float32)
        self.rotation = rotation.reshape(int(len(rotation) ** 0.5), -1) if len(rotation) else None
        self.shards = [faiss.deserialize_index(np.frombuffer(part, np.uint8)) for part in sections[4:]]

    def __len__(self) -> int:
        return len(self.ids)

    def contains(self, ids: Ids) -> NDArray[np.bool_]:
        if not len(self.ids):
            return np.zeros(len(ids), bool)
        positions = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        is_present: NDArray[np.bool_] = self.ids[positions] == ids
        return is_present
