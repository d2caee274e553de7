"""Keeps the lexical index equal to the database, and chooses its engine by size. Only the indexer process uses it.

FTS5 is kept in the documents' own transactions and needs nothing from here while it is complete. tantivy is given what
`changes` names, in a commit of its own after the database's. Either is filled, when it is new, in blocks between which
the indexer sees to other work; how far is written down with the block, so that a crash costs one block.
"""

import logging
import time
from pathlib import Path

import apsw

from index.errors import LexicalIndexError
from index.lexical import fts5
from index.lexical.analyzer import VERSION, Analyzer
from index.lexical.filling import Filling
from index.lexical.inverted import InvertedWriter, newest_folder, remove_folders
from index.lexical.rows import rows_between, rows_of
from index.lexical.search import FTS5, TANTIVY, engine, lexical_folder
from index.storage.sqlite.database import query, transaction

_log = logging.getLogger(__name__)

# FTS5 scores all that matches, tantivy only what can be among the best. The distance between the two numbers keeps a
# corpus of about that size from going back and forth.
_UP, _DOWN = 20_000, 10_000  # chunks
_BLOCK = 2000  # chunks analyzed at once: a fresh save waits no longer than for these
_VERIFY_S = 3600.0  # between two looks at all of tantivy's files
_RETRY_S = 30.0  # after tantivy could not write: a full disk may have room again


class LexicalUpkeep:
    """Owns tantivy's writer, and writes FTS5's rows through the documents' connection."""

    def __init__(self, connection: apsw.Connection, data: Path, up: int = _UP, down: int = _DOWN) -> None:
        self._db = connection
        self._folder = lexical_folder(data)
        ((self._database,),) = query(connection, "SELECT value FROM properties WHERE name = 'id'")
        self._up, self._down = up, down
        self._analyzer = Analyzer()
        self._inverted: InvertedWriter | None = None
        self._seq: int | None = None
        self._wanted = engine(connection)
        self._counted_seq = -1
        self._verified_at = time.monotonic()
        self._retry_at = 0.0

    @property
    def seq(self) -> int | None:
        """The newest change that tantivy has: those after it are still needed. None while it is not in use."""
        return self._seq

    def advance(self) -> bool:
        """Takes in what was committed, and fills in one block. Whether there is more to do at once."""
        self._choose()
        is_busy = False
        if FTS5 in (self._wanted, engine(self._db)):
            is_busy = self._advance_fts5()
        elif fts5.filling(self._db) is not None:  # it has grown again before FTS5 was complete
            with transaction(self._db):
                fts5.drop(self._db)
        if TANTIVY in (self._wanted, engine(self._db)):
            is_busy |= self._advance_tantivy()
        return is_busy

    def close(self) -> None:
        if self._inverted:
            self._inverted.close()
            self._inverted = None

    def _choose(self) -> None:
        """The engine for this many chunks."""
        newest = self._newest_change()
        if newest == self._counted_seq:
            return
        ((count,),) = query(self._db, "SELECT count(*) FROM chunks")
        self._counted_seq = newest
        if count > self._up:
            self._wanted = TANTIVY
        elif count < self._down:
            self._wanted = FTS5

    def _newest_change(self) -> int:
        ((seq,),) = query(self._db, "SELECT coalesce(max(seq), 0) FROM changes")
        return int(seq)

    def _advance_fts5(self) -> bool:
        reached = fts5.filling(self._db)
        if reached is None or reached.analyzer != VERSION:
            with transaction(self._db):
                reached = fts5.start(self._db)
        if not reached.is_complete:
            with transaction(self._db):
                rows = rows_between(self._db, self._analyzer, reached.next, reached.until, _BLOCK)
                fts5.add(self._db, rows)
                reached = reached.after(rows[-1].chunk_id) if len(rows) == _BLOCK else reached.completed()
                fts5.note(self._db, reached)
        if reached.is_complete and self._wanted == FTS5 and engine(self._db) == TANTIVY:
            with transaction(self._db):
                self._db.execute("DELETE FROM properties WHERE name = 'lexical_engine'")
        if reached.is_complete and self._wanted == FTS5:
            self._forget_tantivy()
        return not reached.is_complete

    def _forget_tantivy(self) -> None:
        self.close()
        self._seq = None
        if newest_folder(self._folder):
            remove_folders(self._folder)

    def _advance_tantivy(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            inverted = self._open()
            is_busy = self._commit(inverted)
            self._seq = inverted.mark.seq
        except LexicalIndexError as error:
            _log.warning("the lexical index is built again: %s", error)
            self.close()
            self._retry_at = time.monotonic() + _RETRY_S
            return False
        if not is_busy and engine(self._db) == FTS5 and self._wanted == TANTIVY:
            with transaction(self._db):
                self._db.execute("INSERT OR REPLACE INTO properties VALUES ('lexical_engine', ?)", (TANTIVY,))
                fts5.drop(self._db)
        return is_busy

    def _open(self) -> InvertedWriter:
        """The index that is there if it can be followed, else a new one."""
        if self._inverted and time.monotonic() - self._verified_at > _VERIFY_S:
            self._verified_at = time.monotonic()
            try:
                self._inverted.verify()
            except LexicalIndexError as error:
                _log.warning("the lexical index is built again: %s", error)
                self._renew()
        if self._inverted is None:
            self._inverted = self._opened()
        if self._inverted is None or not self._can_follow(self._inverted):
            self._renew()
        assert self._inverted is not None
        return self._inverted

    def _opened(self) -> InvertedWriter | None:
        folder = newest_folder(self._folder)
        if folder is None:
            return None
        try:
            return InvertedWriter(folder, self._database)
        except LexicalIndexError as error:
            _log.warning("the lexical index is built again: %s", error)
            return None

    def _renew(self) -> None:
        self.close()
        ((last,),) = query(self._db, "SELECT coalesce(max(id), 0) FROM chunks")
        filling = Filling(VERSION, 1, last)
        self._inverted = InvertedWriter.create(self._folder, self._database, filling, self._newest_change())
        remove_folders(self._folder, keep=self._inverted.index.folder)

    def _can_follow(self, inverted: InvertedWriter) -> bool:
        """Whether it has this analyzer's terms, and `changes` still has all that it lacks."""
        ((oldest, newest),) = query(self._db, "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM changes")
        mark = inverted.mark
        return mark.filling.analyzer == VERSION and max(oldest - 1, 0) <= mark.seq <= newest

    def _commit(self, inverted: InvertedWriter) -> bool:
        mark = inverted.mark
        changes = query(
            self._db,
            "SELECT seq, chunk_id, is_removal FROM changes WHERE seq > ? ORDER BY seq LIMIT ?",
            (mark.seq, _BLOCK),
        )
        filling = mark.filling
        if not changes and filling.is_complete:
            return False
        seq = changes[-1][0] if changes else mark.seq
        removed = {chunk_id for _, chunk_id, is_removal in changes if is_removal}
        added = [id for _, id, is_removal in changes if not is_removal and id not in removed and filling.holds(id)]
        rows = rows_of(self._db, self._analyzer, added)
        if not filling.is_complete:
            block = rows_between(self._db, self._analyzer, filling.next, filling.until, _BLOCK)
            rows += block
            filling = filling.after(block[-1].chunk_id) if len(block) == _BLOCK else filling.completed()
        inverted.commit(rows, removed, filling, seq)
        return len(changes) == _BLOCK or not filling.is_complete
