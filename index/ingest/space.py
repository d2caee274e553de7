"""The vector space that questions are answered from, and how another takes its place.

The property `space` names it; only the indexer writes it. With another embedder, the chunks there are get vectors of
the new space beside those of the old, a few at a time. Once no chunk lacks one, the property is changed, in one
transaction, and only then are the old vectors removed. Whatever interrupts this, the next start goes on: vectors that
are there are not made again, and a space that is not named is only ever the one being made, or on its way out.
"""

import shutil
import time
from pathlib import Path

import msgspec

from index.dense.compaction import vectors_folder
from index.embedded_text import embedded_text
from index.ingest.long_texts import embed_long_texts
from index.storage.records import VectorSpace
from index.storage.sqlite.database import execute, query, transaction
from index.storage.sqlite.document_store import SqliteDocumentStore
from index.storage.sqlite.properties import read_vector_space, write_vector_space
from index.types import DocumentEmbedder, with_lead

_BLOCK = 32  # chunks embedded at once: a fresh save waits no longer than for these
_REMOVED = 2000  # rows looked at in a transaction
_GRACE_S = 10.0  # from the start or a switch on: readers may still be in the old space
_OTHERS = "other_spaces"
_LACKING = "NOT EXISTS (SELECT 1 FROM vectors WHERE fingerprint = ?1 AND vectors.content_hash = chunks.content_hash)"


class SpaceUpkeep:
    """Makes the embedder's space the one questions are answered from. `is_building` until it is."""

    def __init__(self, writer: SqliteDocumentStore, data: Path, embedder: DocumentEmbedder, origin: str) -> None:
        self._writer = writer
        self._db = writer.connection
        self._data = data
        self._embedder = embedder
        self._space = VectorSpace(embedder.fingerprint, embedder.dimension, origin)
        self._reached = 0  # the last chunk looked at
        self._swept = 0  # the last row of a vector looked at
        self._sweep_at = time.monotonic() + _GRACE_S
        self.done = self.total = 0  # chunks, of all there were when it began
        before = read_vector_space(self._db)
        self.is_building = before is not None and before.fingerprint != embedder.fingerprint
        self._has_others = self.is_building or self._has_noted_others() or (before is None and self._has_vectors())
        with transaction(self._db):
            if self._has_others:
                self._db.execute("INSERT OR REPLACE INTO properties VALUES (?, '')", (_OTHERS,))
            if not self.is_building:
                self._name()
        if self.is_building:  # a generation of it would be of an earlier time, when it was in use
            shutil.rmtree(vectors_folder(data, embedder.fingerprint), ignore_errors=True)

    def embed(self) -> bool:
        """Gives the next few chunks a vector; False when none lacks one."""
        if not self.total:
            self._count()
        rows = query(
            self._db,
            "SELECT id, content_hash, heading, lead, text FROM chunks"
            f" WHERE id > ?2 AND {_LACKING} ORDER BY id LIMIT ?3",
            (self._space.fingerprint, self._reached, _BLOCK),
        )
        if not rows:
            self.done = self.total
            return False
        texts = {
            content_hash: embedded_text(msgspec.json.decode(heading, type=list[str]), with_lead(lead, text))
            for _, content_hash, heading, lead, text in rows
        }
        vectors = embed_long_texts(self._embedder, list(texts.values()))
        self._writer.store_vectors(self._space.fingerprint, list(texts), vectors)
        self._reached = rows[-1][0]
        self.done = min(self.done + len(rows), self.total)
        return True

    def switch(self) -> None:
        """From now on questions are answered from this space."""
        with transaction(self._db):
            self._name()
        self.is_building = False
        self._sweep_at = time.monotonic() + _GRACE_S

    def sweep(self) -> bool:
        """Removes some of what is left of other spaces; whether there is more to do at once."""
        if self.is_building or not self._has_others or time.monotonic() < self._sweep_at:
            return False
        ((last,),) = query(self._db, "SELECT coalesce(max(id), 0) FROM vectors")
        if self._swept < last:
            with transaction(self._db):
                self._db.execute(
                    "DELETE FROM vectors WHERE id > ? AND id <= ? AND fingerprint != ?",
                    (self._swept, self._swept + _REMOVED, self._space.fingerprint),
                )
            self._swept += _REMOVED
            return True
        for folder in vectors_folder(self._data, self._space.fingerprint).parent.glob("*/"):
            if folder.name != self._space.fingerprint:
                shutil.rmtree(folder, ignore_errors=True)
        execute(self._db, "DELETE FROM properties WHERE name = ?", (_OTHERS,))
        self._has_others = False
        return False

    def _name(self) -> None:
        write_vector_space(self._db, self._space)

    def _has_noted_others(self) -> bool:
        return query(self._db, "SELECT 1 FROM properties WHERE name = ?", (_OTHERS,)) != []

    def _has_vectors(self) -> bool:
        return query(self._db, "SELECT 1 FROM vectors LIMIT 1") != []

    def _count(self) -> None:
        ((self.total,),) = query(self._db, "SELECT count(*) FROM chunks")
        ((lacking,),) = query(self._db, f"SELECT count(*) FROM chunks WHERE {_LACKING}", (self._space.fingerprint,))
        self.done = self.total - lacking
