"""Reading vectors from SQLite: those of some chunks, of all chunks in blocks, or rows of the table."""

from collections.abc import Callable, Iterator, Sequence

import apsw
import msgspec
import numpy as np

from index.database import query
from index.types import Vectors
from index.vectors import BaseBuilder, Ids, Stored

_BLOCK = 8192
_SAMPLE = 20_000  # vectors that tell how the others are spread
_SELECT = (
    "SELECT chunks.id, vectors.id, collection_id, vector FROM chunks"
    " JOIN documents ON documents.id = document_id JOIN vectors USING (content_hash) WHERE fingerprint = ?"
)


class VectorStore:
    """The vectors of one space, as unit vectors. Chunks without a vector in this space are left out."""

    def __init__(self, connection: apsw.Connection, fingerprint: str, dimension: int) -> None:
        self._db = connection
        self._fingerprint = fingerprint
        self._dimension = dimension

    def count_chunks(self) -> int:
        """About as many as there are vectors; exactly, when every chunk was embedded."""
        return int(query(self._db, "SELECT count(*) FROM chunks")[0][0])

    def of_chunks(self, chunk_ids: Sequence[int]) -> Stored:
        """Of those that exist."""
        sql = f"{_SELECT} AND chunks.id IN (SELECT value FROM json_each(?)) ORDER BY chunks.id"
        return self._stored(query(self._db, sql, (self._fingerprint, msgspec.json.encode(list(chunk_ids)).decode())))

    def blocks(self) -> Iterator[Stored]:
        """Of all chunks, in ascending order of id."""
        cursor = self._db.execute(f"{_SELECT} ORDER BY chunks.id", (self._fingerprint,))
        rows = []
        for row in cursor:
            rows.append(row)
            if len(rows) == _BLOCK:
                yield self._stored(rows)
                rows = []
        if rows:
            yield self._stored(rows)

    def build_base(self, proceed: Callable[[], bool] = lambda: True) -> tuple[int, list[bytes]] | None:
        """How many vectors there are, and an index over all of them as a generation's payload; None, when `proceed`
        says no on the way. The caller holds a snapshot."""
        builder, count = BaseBuilder(self._dimension, self.count_chunks(), self.sample()), 0
        for block in self.blocks():
            if not proceed():
                return None
            builder.add(block)
            count += len(block.ids)
        return count, builder.payload()

    def sample(self) -> Vectors:
        """Vectors from all over the table."""
        ((last,),) = query(self._db, "SELECT coalesce(max(id), 0) FROM vectors")
        rows = np.unique(np.linspace(1, max(last, 1), _SAMPLE).astype(np.int64))
        return self.fetch(rows)[1]

    def fetch(self, rows: Ids) -> tuple[Ids, Vectors]:
        """Rows of the table that exist, in ascending order, and their vectors."""
        found = query(
            self._db,
            "SELECT id, vector FROM vectors WHERE id IN carray(?) AND fingerprint = ? ORDER BY id",
            (apsw.carray(np.unique(rows)), self._fingerprint),
        )
        return np.fromiter((row for row, _ in found), np.int64, len(found)), self._unit([blob for _, blob in found])

    def _stored(self, rows: Sequence[tuple[int, int, int, bytes]]) -> Stored:
        ids, places, collections = (np.fromiter((row[i] for row in rows), np.int64, len(rows)) for i in range(3))
        return Stored(ids, places, collections, self._unit([row[3] for row in rows]))

    def _unit(self, blobs: Sequence[bytes]) -> Vectors:
        vectors: Vectors = np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), self._dimension).astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(norms, np.float32(1e-12))
        return vectors
