"""Lexical search as the server does it: with the engine that the indexer chose.

A question becomes terms of the analyzer, never an engine's query syntax. Dropping function words and keeping repeats
brought FTS5 level with dedicated BM25 libraries (docs/architecture.md, Index).
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import apsw

from index.errors import LexicalIndexError
from index.lexical import fts5
from index.lexical.analyzer import Analyzer
from index.lexical.inverted import InvertedIndex
from index.lexical.languages import DEFAULT
from index.lexical.tantivy_files import newest_folder
from index.storage.sqlite.changes import change_bounds
from index.storage.sqlite.database import snapshot
from index.storage.sqlite.properties import database_id, delete_property, read_property, write_property
from index.types import Hits, Ids, Passage

_log = logging.getLogger(__name__)

FTS5, TANTIVY = "fts5", "tantivy"
_RETRY_S = 2.0  # after an index could not be read
_ENGINE = "lexical_engine"  # a property


def lexical_folder(data: Path) -> Path:
    """Return the folder of tantivy's index folders."""
    return data / "lexical"


def active_engine(db: apsw.Connection) -> str:
    """Return the engine that has all chunks and is searched."""
    return read_property(db, _ENGINE) or FTS5


def set_active_engine(db: apsw.Connection, engine: str) -> None:
    if engine == FTS5:
        delete_property(db, _ENGINE)
    else:
        write_property(db, _ENGINE, engine)


class LexicalSearch:
    """Reads either engine. For one thread at a time."""

    def __init__(self, data: Path) -> None:
        self._folder = lexical_folder(data)
        self._analyzer = Analyzer()
        self._inverted: InvertedIndex | None = None
        self._retry_at = 0.0
        self._fts5_languages: list[str] = []
        self._fts5_languages_seq = -1  # the newest change when they were read

    def open(self, db: apsw.Connection) -> None:
        """Open and verify what the first search would wait for."""
        if active_engine(db) == TANTIVY:
            self._open_newest(db)

    def search(
        self,
        db: apsw.Connection,
        question: str,
        k: int,
        collection_ids: Sequence[int] | None,
        only: Ids | None = None,
    ) -> Hits:
        """Return the `k` best chunks with their BM25, best first; of these collections (None: all), and among the ids
        in `only` where given.

        A hit may be of a chunk that was removed since. There are no hits while tantivy's index cannot be read; the
        indexer builds it again.
        """
        with snapshot(db):  # FTS5's rows are dropped in the transaction that changes the engine
            if active_engine(db) == FTS5:
                return fts5.search(db, self._terms(question, self._languages(db)), k, collection_ids, only)
        index = self._open_newest(db)
        if index is None:
            return []
        try:
            return index.search(self._terms(question, index.languages()), k, collection_ids, only)
        except LexicalIndexError as error:
            self._give_up(error)
            return []

    def coverage(self, question: str, passage: Passage) -> float:
        """Return the share of the question's words that are in a passage, its headings or its file's name."""
        name = str(PurePosixPath(passage.display_path).with_suffix(""))
        return self._analyzer.coverage(question, " ".join((name, *passage.heading, passage.text_with_lead)))

    def _terms(self, question: str, languages: Sequence[str]) -> Counter[str]:
        return self._analyzer.question(question, languages or (DEFAULT,))

    def _languages(self, db: apsw.Connection) -> list[str]:
        seq = change_bounds(db).newest
        if self._fts5_languages_seq != seq:
            self._fts5_languages, self._fts5_languages_seq = fts5.languages(db), seq
        return self._fts5_languages

    def _open_newest(self, db: apsw.Connection) -> InvertedIndex | None:
        """Return the newest index as of its last commit; None while none can be read."""
        newest = newest_folder(self._folder)
        if newest is None or time.monotonic() < self._retry_at:
            return None
        try:
            if self._inverted is None or self._inverted.folder != newest:
                self._inverted = InvertedIndex(newest, database_id(db))
            else:
                self._inverted.refresh()
        except LexicalIndexError as error:
            self._give_up(error)
        return self._inverted

    def _give_up(self, error: LexicalIndexError) -> None:
        _log.warning("lexical search finds nothing until the indexer has built its index again: %s", error)
        self._inverted = None
        self._retry_at = time.monotonic() + _RETRY_S
