"""The exact vectors of a base, on disk."""

import os
from collections.abc import Iterator
from typing import IO, Self

import numpy as np

from index.storage.vectors import STORED_TYPE, unit_vectors
from index.types import Ids, Vectors

_BLOCK = 1 << 20  # bytes


class StoredVectors:
    """Float16 vectors by position, `size` bytes of a file from `offset` on. Owns the file.

    They are read by `pread` and not mapped: a file that is truncated while it is open gives short reads, where a
    mapping would end the process.
    """

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self.size = size

    def fetch(self, positions: Ids, dimension: int) -> Vectors:
        """Return unit vectors, one a position; zeros where the file is too short."""
        width, descriptor = dimension * STORED_TYPE.itemsize, self._file.fileno()
        rows = (os.pread(descriptor, width, self._offset + position * width) for position in positions.tolist())
        joined = b"".join(row.ljust(width, b"\0") for row in rows)
        return unit_vectors(np.frombuffer(joined, STORED_TYPE).reshape(len(positions), dimension))

    def blocks(self) -> Iterator[bytes]:
        """Yield all bytes in order."""
        for start in range(0, self.size, _BLOCK):
            yield os.pread(self._file.fileno(), min(_BLOCK, self.size - start), self._offset + start)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
