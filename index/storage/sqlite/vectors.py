"""Reading vectors from SQLite: those of some chunks, of all chunks in blocks, or rows of the table."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import apsw
import msgspec
import numpy as np

from index.dense.vector_index import BaseBuilder, Stored, unit
from index.storage.sqlite.database import query, storage_errors
from index.types import Vectors

_BLOCK = 8192
_SAMPLE = 20_000  # vectors that tell how the others are spread
_SELECT = (
    "SELECT chunks.id, collection_id, vector FROM chunks"
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
        with storage_errors():
            cursor = self._db.execute(f"{_SELECT} ORDER BY chunks.id", (self._fingerprint,))
            while rows := list(islice(cursor, _BLOCK)):
                yield self._stored(rows)

    def build_base(self, proceed: Callable[[], bool] = lambda: True) -> BaseBuilder | None:
        """Filled with all vectors, the caller's to close; None, when `proceed` says no on the way. The caller holds a
        snapshot."""
        folder = Path(self._db.filename).parent
        with contextlib.ExitStack() as stack:
            builder = BaseBuilder(self._dimension, self.count_chunks(), self.sample(), folder=folder)
            stack.enter_context(builder)
            for block in self.blocks():
                if not proceed():
                    return None
                builder.add(block)
            stack.pop_all()
        return builder

    def sample(self) -> Vectors:
        """Vectors from all over the table."""
        ((first, last),) = query(self._db, "SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM vectors")
        rows = np.unique(np.linspace(first, last, _SAMPLE).astype(np.int64))
        sql = "SELECT vector FROM vectors WHERE id IN carray(?) AND fingerprint = ?"
        return self._unit([blob for (blob,) in query(self._db, sql, (apsw.carray(rows), self._fingerprint))])

    def _stored(self, rows: Sequence[tuple[int, int, bytes]]) -> Stored:
        ids, collections = (np.fromiter((row[i] for row in rows), np.int64, len(rows)) for i in range(2))
        return Stored(ids, collections, self._unit([row[2] for row in rows]))

    def _unit(self, blobs: Sequence[bytes]) -> Vectors:
        return unit(np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), self._dimension))
