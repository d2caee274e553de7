"""Reads the vectors of one space from SQLite: those of some chunks, of all chunks in blocks, or a sample."""

from collections.abc import Iterator, Sequence
from itertools import islice

import apsw
import msgspec
import numpy as np

from index.storage.sqlite.database import query, storage_errors
from index.storage.vectors import STORED_TYPE, ChunkVectors, unit_vectors
from index.types import Vectors

_BLOCK = 8192  # chunks
_SAMPLE = 20_000  # vectors
_SELECT = (
    "SELECT chunks.id, collection_id, vector FROM chunks"
    " JOIN documents ON documents.id = document_id JOIN vectors USING (content_hash) WHERE fingerprint = ?"
)


class VectorReader:
    """Reads unit vectors of the embedder `fingerprint`. Chunks without a vector in its space are left out."""

    def __init__(self, connection: apsw.Connection, fingerprint: str, dimension: int) -> None:
        self._db = connection
        self._fingerprint = fingerprint
        self.dimension = dimension

    def count_chunks(self) -> int:
        """Return the number of chunks, which is that of the vectors once every chunk is embedded."""
        return int(query(self._db, "SELECT count(*) FROM chunks")[0][0])

    def of_chunks(self, chunk_ids: Sequence[int]) -> ChunkVectors:
        """Return the vectors of these chunks, in ascending order of id; missing chunks are left out."""
        sql = f"{_SELECT} AND chunks.id IN (SELECT value FROM json_each(?)) ORDER BY chunks.id"
        return self._vectors(query(self._db, sql, (self._fingerprint, msgspec.json.encode(list(chunk_ids)).decode())))

    def blocks(self) -> Iterator[ChunkVectors]:
        """Yield the vectors of all chunks, in ascending order of id."""
        with storage_errors():
            rows = self._db.execute(f"{_SELECT} ORDER BY chunks.id", (self._fingerprint,))
            while block := list(islice(rows, _BLOCK)):
                yield self._vectors(block)

    def sample(self) -> Vectors:
        """Return up to 20,000 vectors, spread evenly over the table."""
        ((first, last),) = query(self._db, "SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM vectors")
        ids = np.unique(np.linspace(first, last, _SAMPLE).astype(np.int64))
        sql = "SELECT vector FROM vectors WHERE id IN carray(?) AND fingerprint = ?"
        return self._decode([blob for (blob,) in query(self._db, sql, (apsw.carray(ids), self._fingerprint))])

    def _vectors(self, rows: Sequence[tuple[int, int, bytes]]) -> ChunkVectors:
        ids = np.fromiter((id for id, _, _ in rows), np.int64, len(rows))
        collections = np.fromiter((collection_id for _, collection_id, _ in rows), np.int64, len(rows))
        return ChunkVectors(ids, collections, self._decode([vector for _, _, vector in rows]))

    def _decode(self, blobs: Sequence[bytes]) -> Vectors:
        return unit_vectors(np.frombuffer(b"".join(blobs), STORED_TYPE).reshape(len(blobs), self.dimension))
