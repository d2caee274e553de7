"""Lexical search as the server does it: the engine that the indexer chose, and never a failure.

A question's words are terms of the analyzer, never an engine's syntax. Dropping function words and keeping repeats
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
from index.lexical.inverted import InvertedIndex, newest_folder
from index.lexical.languages import DEFAULT
from index.storage.sqlite.database import query, snapshot
from index.types import Ids, Passage

_log = logging.getLogger(__name__)

FTS5, TANTIVY = "fts5", "tantivy"
_RETRY_S = 2.0


def lexical_folder(data: Path) -> Path:
    """Where tantivy's index folders lie."""
    return data / "lexical"


def engine(db: apsw.Connection) -> str:
    """The engine that has all chunks."""
    rows = query(db, "SELECT value FROM properties WHERE name = 'lexical_engine'")
    return str(rows[0][0]) if rows else FTS5


class LexicalSearch:
    """Reads either engine. Not to be shared between threads."""

    def __init__(self, data: Path) -> None:
        self._folder = lexical_folder(data)
        self._analyzer = Analyzer()
        self._inverted: InvertedIndex | None = None
        self._retry_at = 0.0  # after an index could not be read
        self._fts5_languages: tuple[int, list[str]] = -1, []  # and the change they are of

    def open(self, db: apsw.Connection) -> None:
        """Reads and verifies now what the first question would wait for."""
        if engine(db) == TANTIVY:
            self._opened(db)

    def search(
        self,
        db: apsw.Connection,
        question: str,
        k: int,
        collection_ids: Sequence[int] | None,
        only: Ids | None = None,
    ) -> list[tuple[int, float]]:
        """The `k` best chunks of these collections (None: of all), and among the ids in `only` when given, as
        (id, BM25), best first; larger is better.

        Empty while tantivy's index cannot be read: the indexer builds it again. A hit may be of a chunk removed since.
        """
        with snapshot(db):  # the rows go in the transaction that changes the engine
            if engine(db) == FTS5:
                return fts5.search(db, self._terms(question, self._languages(db)), k, collection_ids, only)
        index = self._opened(db)
        if index is None:
            return []
        try:
            return index.search(self._terms(question, index.languages()), k, collection_ids, only)
        except LexicalIndexError as error:
            self._give_up(error)
            return []

    def coverage(self, question: str, passage: Passage) -> float:
        """The share of the question's words that a passage, its headings or its file's name have."""
        name = str(PurePosixPath(passage.display_path).with_suffix(""))
        return self._analyzer.coverage(question, " ".join((name, *passage.heading, passage.text_with_lead)))

    def _terms(self, question: str, languages: Sequence[str]) -> Counter[str]:
        return self._analyzer.question(question, languages or (DEFAULT,))

    def _languages(self, db: apsw.Connection) -> list[str]:
        ((seq,),) = query(db, "SELECT coalesce(max(seq), 0) FROM changes")
        if self._fts5_languages[0] != seq:
            self._fts5_languages = seq, fts5.languages(db)
        return self._fts5_languages[1]

    def _opened(self, db: apsw.Connection) -> InvertedIndex | None:
        """The newest index as of its last commit; None while there is none that can be read."""
        newest = newest_folder(self._folder)
        if newest is None or time.monotonic() < self._retry_at:
            return None
        try:
            if self._inverted is None or self._inverted.folder != newest:
                ((database,),) = query(db, "SELECT value FROM properties WHERE name = 'id'")
                self._inverted = InvertedIndex(newest, database)
            else:
                self._inverted.refresh()
        except LexicalIndexError as error:
            self._give_up(error)
        return self._inverted

    def _give_up(self, error: LexicalIndexError) -> None:
        _log.warning("words are not searched until the index is built again: %s", error)
        self._inverted = None
        self._retry_at = time.monotonic() + _RETRY_S
