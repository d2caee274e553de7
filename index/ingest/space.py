"""The switch from one embedder's vector space to another's, while questions go on.

The database names the space that questions are answered from; only the indexer writes it.

1. With another embedder, chunks get vectors of the new space beside those of the old, a few at a time.
2. Once no chunk lacks one, the name is changed in one transaction.
3. Only then are the old vectors removed.

Whatever interrupts this, the next start goes on: no vector is made twice, and a space that is not named is only ever
the one being built or one being removed.
"""

import shutil
import time
from pathlib import Path

from index.dense.compaction import vectors_folder
from index.ingest.long_texts import embed_long_texts
from index.storage.base import DocumentStore
from index.storage.records import VectorSpace
from index.types import DocumentEmbedder

_BLOCK = 32  # chunks embedded at once: a fresh save waits no longer than for these
_REMOVED = 2000  # rows looked at in a transaction
_GRACE_S = 10.0  # after the start or a switch, while readers may still be in the old space


class SpaceUpkeep:
    """Makes the embedder's space the one that questions are answered from; `is_building` until it is.

    `done` of `total` chunks have a vector in the new space; `total` is the count when building began.
    """

    def __init__(self, store: DocumentStore, data: Path, embedder: DocumentEmbedder, origin: str) -> None:
        self._store = store
        self._spaces = store.vector_spaces
        self._data = data
        self._embedder = embedder
        self._space = VectorSpace(embedder.fingerprint, embedder.dimension, origin)
        self._embedded_id = 0  # the last chunk looked at
        self._swept_id = 0  # the last row of a vector looked at
        self._sweep_at = time.monotonic() + _GRACE_S
        self.done = self.total = 0
        current = self._spaces.current()
        self.is_building = current is not None and current.fingerprint != embedder.fingerprint
        is_unnamed = current is None and self._spaces.has_vectors()  # by a version before spaces had names
        self._has_others = self.is_building or self._spaces.has_others() or is_unnamed
        self._spaces.start(self._space, is_current=not self.is_building, has_others=self._has_others)
        if self.is_building:  # a snapshot of this space is from a time when it was in use before
            shutil.rmtree(vectors_folder(data, embedder.fingerprint), ignore_errors=True)

    def embed(self) -> bool:
        """Give the next few chunks a vector in the new space; return False when none lacks one."""
        fingerprint = self._space.fingerprint
        if not self.total:
            self.total = self._spaces.count_chunks()
            self.done = self.total - self._spaces.count_chunks_without_vector(fingerprint)
        chunks = self._spaces.chunks_without_vector(fingerprint, self._embedded_id, _BLOCK)
        if not chunks:
            self.done = self.total
            return False
        texts = {chunk.content_hash: chunk.text for chunk in chunks}
        vectors = embed_long_texts(self._embedder, list(texts.values()))
        self._store.store_vectors(fingerprint, list(texts), vectors)
        self._embedded_id = chunks[-1].id
        self.done = min(self.done + len(chunks), self.total)
        return True

    def switch(self) -> None:
        """Answer questions from the new space from now on."""
        self._spaces.switch_to(self._space)
        self.is_building = False
        self._sweep_at = time.monotonic() + _GRACE_S

    def sweep(self) -> bool:
        """Remove some of what is left of other spaces; return whether there is more to do at once."""
        if self.is_building or not self._has_others or time.monotonic() < self._sweep_at:
            return False
        if self._swept_id < self._spaces.newest_vector_id():
            up_to_id = self._swept_id + _REMOVED
            self._spaces.remove_others(self._space.fingerprint, self._swept_id, up_to_id)
            self._swept_id = up_to_id
            return True
        for folder in vectors_folder(self._data, self._space.fingerprint).parent.glob("*/"):
            if folder.name != self._space.fingerprint:
                shutil.rmtree(folder, ignore_errors=True)
        self._spaces.note_others_removed()
        self._has_others = False
        return False
