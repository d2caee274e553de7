"""Keeps what searches read equal to the documents: the lexical index, the vector space, and its snapshots."""

from pathlib import Path

from index.dense.compaction import Compaction, is_stale
from index.ingest.progress import ProgressReporter, SpaceSwitch
from index.ingest.space import SpaceUpkeep
from index.storage.base import DocumentStore
from index.types import DocumentEmbedder


class IndexUpkeep:
    """Owns the upkeep of the vector space and the compaction; drives the store's lexical index.

    Each method does a little and returns whether there is more to do at once, so that a fresh save does not wait.
    """

    def __init__(
        self,
        store: DocumentStore,
        data: Path,
        embedder: DocumentEmbedder,
        progress: ProgressReporter,
        *,
        chunking: str,
        origin: str,
    ) -> None:
        """`chunking` describes how documents are cut; those cut otherwise become pending.

        `origin` is kept with the vectors, for readers that must find the embedder of their space again.
        """
        self._store = store
        self._fingerprint = embedder.fingerprint
        self._progress = progress
        self._chunking = chunking
        self._lexical = store.lexical_index
        self._space = SpaceUpkeep(store, data, embedder, origin)
        if not self._space.is_building:
            store.invalidate_other_chunking(chunking)
        self._compaction = Compaction(data, embedder.fingerprint, embedder.dimension, store.database_id())
        self._has_snapshot = False  # of the space being built: readers need not make one themselves

    def close(self) -> None:
        """End the compaction's thread; the store stays open."""
        self._compaction.close()

    @property
    def is_building_space(self) -> bool:
        """Return whether another embedder's vectors are being made, beside those that questions are answered from."""
        return self._space.is_building

    @property
    def is_compacting(self) -> bool:
        return self._compaction.is_running

    def invalidate_unembedded(self) -> None:
        """Mark documents pending that have a chunk without a vector in the space in use."""
        if not self._space.is_building:
            self._store.invalidate_unembedded(self._fingerprint)

    def index_words(self) -> bool:
        """Let the lexical index follow what was committed."""
        return self._lexical.advance()

    def follow_embedder(self, *, has_backlog: bool) -> bool:
        """Build the embedder's space and switch to it if another is in use; then remove what is left of the other.

        Documents are cut for the new embedder only after the switch: until then their chunks need vectors in both.
        """
        if not self._space.is_building:
            return self._space.sweep()
        if self._space.embed():
            self._progress.note_switch(SpaceSwitch(self._space.done, self._space.total))
            return True
        if not self._has_snapshot:
            self._has_snapshot = True
            self._compaction.start()
        if self._compaction.is_running:
            return False
        self._forget_superseded(self._compaction.take_superseded_seq(), has_backlog=has_backlog)
        self._space.switch()
        self._progress.note_switch(None)
        self._store.invalidate_other_chunking(self._chunking)
        return True

    def compact(self, *, is_quiet: bool, has_backlog: bool) -> None:
        """Start a snapshot of the vectors when readers would have much to replay, and note one that is finished."""
        if self._space.is_building:  # a snapshot now would lack vectors
            return
        self._forget_superseded(self._compaction.take_superseded_seq(), has_backlog=has_backlog)
        num_changes = self._store.last_change() - self._compaction.seq
        if is_stale(num_changes, self._compaction.count, at_work=not is_quiet):
            self._compaction.start()

    def write_generation(self, *, has_backlog: bool) -> None:
        """Write a snapshot of the vectors now, if anything has changed since the last."""
        if self._store.last_change() != self._compaction.seq:
            self._compaction.start()
            self._forget_superseded(self._compaction.take_superseded_seq(wait=True), has_backlog=has_backlog)

    def _forget_superseded(self, seq: int | None, *, has_backlog: bool) -> None:
        """Delete change rows up to `seq`, which only superseded generations needed, and vectors without a chunk.

        Vectors stay while there is a backlog: a document that was moved may be between its two paths.
        """
        if seq is None:
            return
        lexical_seq = self._lexical.seq
        self._store.trim_changes(seq if lexical_seq is None else min(seq, lexical_seq))
        if not has_backlog:
            self._store.delete_unused_vectors()
