"""Keeps the lexical index equal to the chunks, and chooses its engine by their number. Part of the indexer process.

FTS5's rows change in the documents' own transactions, so a complete FTS5 index needs nothing from here. tantivy follows
the change log with commits of its own after the database's. A new index of either is filled in blocks, between which
the indexer does other work. How far it is filled is stored with each block, so that a crash loses one block at most.
"""

import logging
import time
from pathlib import Path

import apsw

from index.errors import LexicalIndexError
from index.lexical import fts5
from index.lexical.analyzer import VERSION, Analyzer
from index.lexical.fill_progress import FillProgress
from index.lexical.inverted_writer import InvertedWriter
from index.lexical.rows import rows_between, rows_of
from index.lexical.search import FTS5, TANTIVY, active_engine, lexical_folder, set_active_engine
from index.lexical.tantivy_files import newest_folder, remove_folders
from index.storage.sqlite.changes import change_bounds, read_changes
from index.storage.sqlite.database import query, transaction
from index.storage.sqlite.properties import database_id

_log = logging.getLogger(__name__)

# FTS5 scores every match, tantivy only what can be among the best. The gap between the two limits keeps a corpus whose
# size varies a little from switching back and forth.
_UP, _DOWN = 20_000, 10_000  # chunks
_BLOCK = 2000  # chunks analyzed at once: a fresh save waits no longer than for these
_VERIFY_S = 3600.0  # between two verifications of all of tantivy's files
_RETRY_S = 30.0  # after tantivy could not write: a full disk may have room again


class LexicalUpkeep:
    """Owns tantivy's writer, and writes FTS5's rows through the documents' connection."""

    def __init__(self, connection: apsw.Connection, data: Path, up: int = _UP, down: int = _DOWN) -> None:
        """tantivy is chosen above `up` chunks, FTS5 below `down`."""
        self._db = connection
        self._folder = lexical_folder(data)
        self._database = database_id(connection)
        self._up, self._down = up, down
        self._analyzer = Analyzer()
        self._inverted: InvertedWriter | None = None
        self._seq: int | None = None
        self._wanted = active_engine(connection)
        self._counted_seq = -1  # the newest change when chunks were last counted
        self._verified_at = time.monotonic()
        self._retry_at = 0.0

    @property
    def seq(self) -> int | None:
        """Return the newest change that tantivy has: it needs those after it. None while it is not in use."""
        return self._seq

    def advance(self) -> bool:
        """Take in what was committed, and fill one block; return whether there is more to do at once."""
        self._choose_engine()
        is_busy = False
        if FTS5 in (self._wanted, active_engine(self._db)):
            is_busy = self._advance_fts5()
        elif fts5.fill_progress(self._db) is not None:  # the corpus grew again before FTS5 was complete
            with transaction(self._db):
                fts5.drop(self._db)
        if TANTIVY in (self._wanted, active_engine(self._db)):
            is_busy |= self._advance_tantivy()
        return is_busy

    def close(self) -> None:
        if self._inverted:
            self._inverted.close()
            self._inverted = None

    def _choose_engine(self) -> None:
        newest = change_bounds(self._db).newest
        if newest == self._counted_seq:
            return
        ((count,),) = query(self._db, "SELECT count(*) FROM chunks")
        self._counted_seq = newest
        if count > self._up:
            self._wanted = TANTIVY
        elif count < self._down:
            self._wanted = FTS5

    def _advance_fts5(self) -> bool:
        progress = fts5.fill_progress(self._db)
        if progress is None or progress.analyzer != VERSION:
            with transaction(self._db):
                progress = fts5.start(self._db)
        if not progress.is_complete:
            with transaction(self._db):
                rows = rows_between(self._db, self._analyzer, progress.next, progress.until, _BLOCK)
                fts5.insert_rows(self._db, rows)
                progress = progress.after(rows[-1].chunk_id) if len(rows) == _BLOCK else progress.to_end()
                fts5.write_fill_progress(self._db, progress)
        if progress.is_complete and self._wanted == FTS5:
            if active_engine(self._db) == TANTIVY:
                with transaction(self._db):
                    set_active_engine(self._db, FTS5)
            self._discard_tantivy()
        return not progress.is_complete

    def _discard_tantivy(self) -> None:
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
            self._seq = inverted.commit_info.seq
        except LexicalIndexError as error:
            _log.warning("the lexical index is built again: %s", error)
            self.close()
            self._retry_at = time.monotonic() + _RETRY_S
            return False
        if not is_busy and active_engine(self._db) == FTS5 and self._wanted == TANTIVY:
            with transaction(self._db):
                set_active_engine(self._db, TANTIVY)
                fts5.drop(self._db)
        return is_busy

    def _open(self) -> InvertedWriter:
        """Return the writer of the newest folder if that can follow the change log, else of a new one."""
        if self._inverted and time.monotonic() - self._verified_at > _VERIFY_S:
            self._verified_at = time.monotonic()
            try:
                self._inverted.verify()
            except LexicalIndexError as error:
                _log.warning("the lexical index is built again: %s", error)
                self._inverted = self._create()
        if self._inverted is None:
            self._inverted = self._open_newest()
        if self._inverted is None or not self._can_follow(self._inverted):
            self._inverted = self._create()
        return self._inverted

    def _open_newest(self) -> InvertedWriter | None:
        folder = newest_folder(self._folder)
        if folder is None:
            return None
        try:
            return InvertedWriter(folder, self._database)
        except LexicalIndexError as error:
            _log.warning("the lexical index is built again: %s", error)
            return None

    def _create(self) -> InvertedWriter:
        self.close()
        ((last,),) = query(self._db, "SELECT coalesce(max(id), 0) FROM chunks")
        filling, newest = FillProgress(VERSION, 1, last), change_bounds(self._db).newest
        inverted = InvertedWriter.create(self._folder, self._database, filling, newest)
        remove_folders(self._folder, keep=inverted.index.folder)
        return inverted

    def _can_follow(self, inverted: InvertedWriter) -> bool:
        """Return whether the index has this analyzer's terms, and the change log has all that it lacks."""
        info = inverted.commit_info
        return info.filling.analyzer == VERSION and change_bounds(self._db).can_follow(info.seq)

    def _commit(self, inverted: InvertedWriter) -> bool:
        """Commit the next changes and the next block; return whether there is more to do at once."""
        info, filling = inverted.commit_info, inverted.commit_info.filling
        changes = read_changes(self._db, info.seq, _BLOCK)
        if changes is None and filling.is_complete:
            return False
        added = [id for id in changes.added if filling.covers(id)] if changes else []
        rows = rows_of(self._db, self._analyzer, added)
        if not filling.is_complete:
            block = rows_between(self._db, self._analyzer, filling.next, filling.until, _BLOCK)
            rows += block
            filling = filling.after(block[-1].chunk_id) if len(block) == _BLOCK else filling.to_end()
        inverted.commit(rows, changes.removed if changes else (), filling, changes.seq if changes else info.seq)
        return (changes is not None and changes.num_changes == _BLOCK) or not filling.is_complete
