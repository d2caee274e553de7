"""Vectors as they are read from a store: parallel arrays of ids and unit vectors."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.types import Ids, Vectors

STORED_TYPE = np.dtype("<f2")


class ChunkVectors(NamedTuple):
    """Parallel arrays: chunk id, collection id, vector."""

    ids: Ids
    collections: Ids
    vectors: Vectors

    def take(self, rows: NDArray[np.bool_] | slice) -> "ChunkVectors":
        return ChunkVectors(self.ids[rows], self.collections[rows], self.vectors[rows])


def unit_vectors(vectors: NDArray[np.float16]) -> Vectors:
    """Return the rows as float32, scaled to length one."""
    rows: Vectors = vectors.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return rows
