"""The engine of a small corpus: SQLite's FTS5, in the transactions of the documents.

The table has a row for every chunk, or it is empty and has no `FillProgress`, while tantivy has the chunks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import apsw
import msgspec

from index.lexical.analyzer import VERSION, Analyzer
from index.lexical.fill_progress import FillProgress
from index.lexical.languages import LATIN
from index.lexical.rows import Row, collection_term, language_term, make_row
from index.storage.sqlite.database import execute, query, storage_errors
from index.storage.sqlite.properties import delete_property, read_property, write_property
from index.types import Chunk, Hits, Ids

_FILLING = "lexical_fts5"  # a property: JSON


def fill_progress(db: apsw.Connection) -> FillProgress | None:
    """Return how far the rows are filled; None while none are kept."""
    encoded = read_property(db, _FILLING)
    return None if encoded is None else msgspec.json.decode(encoded, type=FillProgress)


def write_fill_progress(db: apsw.Connection, progress: FillProgress) -> None:
    write_property(db, _FILLING, msgspec.json.encode(progress).decode())


def start(db: apsw.Connection) -> FillProgress:
    """Keep rows from now on; those of the present chunks must be filled in. The caller holds a transaction."""
    drop(db)
    ((last,),) = query(db, "SELECT coalesce(max(id), 0) FROM chunks")
    progress = FillProgress(VERSION, 1, last)
    write_fill_progress(db, progress)
    return progress


def drop(db: apsw.Connection) -> None:
    """Remove all rows and keep none. The caller holds a transaction."""
    delete_property(db, _FILLING)
    execute(db, "INSERT INTO words (words) VALUES ('delete-all')")


def insert_rows(db: apsw.Connection, rows: Iterable[Row]) -> None:
    with storage_errors():
        db.executemany("INSERT INTO words (rowid, terms, scope) VALUES (?, ?, ?)", rows)


class Fts5Writer:
    """Keeps the rows equal to the chunks, in the documents' own transactions: a `TransactionalIndex`."""

    def __init__(self) -> None:
        self._analyzer = Analyzer()

    def add(self, db: apsw.Connection, collection_id: int, path: str, chunks: Mapping[int, Chunk]) -> None:
        if fill_progress(db) is not None:
            insert_rows(db, (self._row(id, collection_id, path, chunk) for id, chunk in chunks.items()))

    def remove_document(self, db: apsw.Connection, document_id: int) -> None:
        execute(db, "DELETE FROM words WHERE rowid IN (SELECT id FROM chunks WHERE document_id = ?)", (document_id,))

    def _row(self, chunk_id: int, collection_id: int, path: str, chunk: Chunk) -> Row:
        return make_row(self._analyzer, chunk_id, collection_id, path, chunk.heading, chunk.text_with_lead)


def languages(db: apsw.Connection) -> list[str]:
    """Return the Latin languages of the chunks."""
    sql = "SELECT 1 FROM words WHERE words MATCH ? LIMIT 1"
    return [language for language in LATIN if query(db, sql, (f'scope : "{language_term(language)}"',))]


def search(
    db: apsw.Connection, terms: Counter[str], k: int, collection_ids: Sequence[int] | None, only: Ids | None = None
) -> Hits:
    """Return the `k` best chunks with their BM25, best first; of these collections (None: all), and among the ids in
    `only` where given."""
    expression = match_expression(terms, collection_ids)
    if expression is None:
        return []
    # The + keeps SQLite from looking up one row id after the other.
    condition = "" if only is None else " AND +rowid IN (SELECT value FROM json_each(?))"
    among = [] if only is None else [msgspec.json.encode(only.tolist()).decode()]
    rows = query(
        db,
        f"SELECT rowid, -bm25(words, 1.0, 0.0) AS score FROM words WHERE words MATCH ?{condition}"
        " ORDER BY score DESC LIMIT ?",
        (expression, *among, k),
    )
    return [(int(id), float(score)) for id, score in rows]


def match_expression(terms: Counter[str], collection_ids: Sequence[int] | None) -> str | None:
    """Return the argument of MATCH; None when nothing can match. A term is one string: terms have no quotes."""
    if not terms or (collection_ids is not None and not collection_ids):
        return None
    words = "terms : (" + " OR ".join(f'"{term}"' for term in terms.elements()) + ")"
    if collection_ids is None:
        return words
    return f"{words} AND scope : (" + " OR ".join(f'"{collection_term(id)}"' for id in collection_ids) + ")"
