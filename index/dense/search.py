"""Dense search as the server does it: the vector index of one space, kept equal to the change log."""

from pathlib import Path

from index.dense.base_index import build_base
from index.dense.compaction import is_stale, vectors_folder
from index.dense.generations import newest_header, read_newest
from index.dense.vector_index import VectorIndex
from index.storage.sqlite.changes import ChangeBounds
from index.storage.sqlite.reader import IndexReader
from index.types import Hits, Ids, Vectors

_REPLAY = 10_000  # changes taken in at once


class DenseSearch:
    """Owns the in-memory index of one vector space. For one thread at a time.

    It begins with the newest generation on disk, or with all vectors of the database, and then replays the changes.
    """

    def __init__(self, data: Path, fingerprint: str, dimension: int) -> None:
        self._data = data
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._index = VectorIndex(dimension)
        self._seq = -1  # the newest change in the index; -1 before the first load
        self._base_seq = -1  # the newest change in its base

    @property
    def kind(self) -> str:
        """Return the encoding of the base."""
        return self._index.kind

    def close(self) -> None:
        self._index.close()

    def search(self, vector: Vectors, k: int, collections: list[int] | None, only: Ids | None = None) -> Hits:
        """Return the `k` nearest chunks with their cosines, best first; see `VectorIndex.search`. Reads no database."""
        return self._index.search(vector, k, collections, only)

    def catch_up(self, reader: IndexReader) -> None:
        """Take in what was committed since the last call."""
        while True:
            with reader.snapshot():  # of the changes and their vectors
                bounds = reader.change_bounds()
                if self._seq == bounds.newest:
                    return
                if self._seq < max(bounds.oldest - 1, 0):
                    self._load(reader, bounds)
                else:
                    self._replay(reader)

    def renew(self, reader: IndexReader) -> None:
        """Load a newer generation once the index has much beside its base."""
        if not is_stale(self._index.num_beside, len(self._index)):
            return
        newest = newest_header(self._folder, reader.database_id(), self._fingerprint, self._dimension)
        if newest is not None and newest.seq > self._base_seq:
            self._seq = -1
            self.catch_up(reader)
            self._base_seq = newest.seq  # also of a damaged generation, which is not tried again

    def _load(self, reader: IndexReader, bounds: ChangeBounds) -> None:
        """Begin with the newest generation if the change log follows it, else with all vectors."""
        generation = read_newest(self._folder, reader.database_id(), self._fingerprint, self._dimension)
        if generation is not None and bounds.can_follow(generation.header.seq):
            index = VectorIndex(self._dimension, generation.payload, generation.stored_vectors)
            self._seq = generation.header.seq
        else:
            if generation is not None and generation.stored_vectors is not None:
                generation.stored_vectors.close()
            base = build_base(reader.vectors(self._fingerprint, self._dimension), self._data)
            assert base is not None, "nothing stops it"
            index, self._seq = (
                VectorIndex(self._dimension, b"".join(base.payload()), base.stored_vectors()),
                bounds.newest,
            )
        self._base_seq = self._seq
        self._index.close()
        self._index = index

    def _replay(self, reader: IndexReader) -> None:
        changes = reader.changes(self._seq, _REPLAY)
        if changes is None:
            return
        self._index.remove(changes.removed)
        self._index.add(reader.vectors(self._fingerprint, self._dimension).of_chunks(changes.added))
        self._seq = changes.seq

    @property
    def _folder(self) -> Path:
        return vectors_folder(self._data, self._fingerprint)
