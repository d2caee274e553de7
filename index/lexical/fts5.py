"""The engine of a small corpus: SQLite's FTS5, in the transactions of the documents.

A row is there for every chunk, or the table is empty and `Filling` absent: then tantivy has the chunks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import apsw
import msgspec

from index.lexical.analyzer import VERSION, Analyzer
from index.lexical.filling import Filling
from index.lexical.languages import LATIN
from index.lexical.rows import Row, collection_term, language_term, make_row
from index.storage.sqlite.database import execute, query
from index.types import Chunk, Ids

_FILLING = "lexical_fts5"  # a property: JSON


def filling(db: apsw.Connection) -> Filling | None:
    """None when the rows are not kept."""
    rows = query(db, "SELECT value FROM properties WHERE name = ?", (_FILLING,))
    return msgspec.json.decode(rows[0][0], type=Filling) if rows else None


def start(db: apsw.Connection) -> Filling:
    """Keeps rows from here on; those of the chunks there are must be filled in. In a transaction."""
    drop(db)
    ((last,),) = query(db, "SELECT coalesce(max(id), 0) FROM chunks")
    started = Filling(VERSION, 1, last)
    note(db, started)
    return started


def note(db: apsw.Connection, reached: Filling) -> None:
    encoded = msgspec.json.encode(reached).decode()
    db.execute("INSERT OR REPLACE INTO properties VALUES (?, ?)", (_FILLING, encoded))


def drop(db: apsw.Connection) -> None:
    """Removes all rows, and keeps none. In a transaction."""
    db.execute("DELETE FROM properties WHERE name = ?", (_FILLING,))
    db.execute("INSERT INTO words (words) VALUES ('delete-all')")


def add(db: apsw.Connection, rows: Iterable[Row]) -> None:
    db.executemany("INSERT INTO words (rowid, terms, scope) VALUES (?, ?, ?)", rows)


class Fts5Writer:
    """Keeps the rows equal to the chunks, in the documents' own transactions: a `TransactionalIndex`."""

    def __init__(self) -> None:
        self._analyzer = Analyzer()

    def add(self, db: apsw.Connection, collection_id: int, path: str, chunks: Mapping[int, Chunk]) -> None:
        if filling(db) is not None:
            add(db, (self._row(id, collection_id, path, chunk) for id, chunk in chunks.items()))

    def remove_document(self, db: apsw.Connection, document_id: int) -> None:
        execute(db, "DELETE FROM words WHERE rowid IN (SELECT id FROM chunks WHERE document_id = ?)", (document_id,))

    def _row(self, chunk_id: int, collection_id: int, path: str, chunk: Chunk) -> Row:
        return make_row(self._analyzer, chunk_id, collection_id, path, chunk.heading, chunk.text_with_lead)


def languages(db: apsw.Connection) -> list[str]:
    """The Latin languages that chunks are in."""
    sql = "SELECT 1 FROM words WHERE words MATCH ? LIMIT 1"
    return [language for language in LATIN if query(db, sql, (f'scope : "{language_term(language)}"',))]


def search(
    db: apsw.Connection, terms: Counter[str], k: int, collection_ids: Sequence[int] | None, only: Ids | None = None
) -> list[tuple[int, float]]:
    """The `k` best chunks, of these collections or of all, and among the ids in `only` when given, as (id, BM25), best
    first; larger is better."""
    expression = match_expression(terms, collection_ids)
    if expression is None:
        return []
    # The + keeps FTS5 from looking for one row after the other.
    wanted = "" if only is None else " AND +rowid IN (SELECT value FROM json_each(?))"
    chosen = [] if only is None else [msgspec.json.encode(only.tolist()).decode()]
    rows = query(
        db,
        f"SELECT rowid, -bm25(words, 1.0, 0.0) AS score FROM words WHERE words MATCH ?{wanted}"
        " ORDER BY score DESC LIMIT ?",
        (expression, *chosen, k),
    )
    return [(int(id), float(score)) for id, score in rows]


def match_expression(terms: Counter[str], collection_ids: Sequence[int] | None) -> str | None:
    """FTS5's MATCH argument; None when nothing can match. Terms have no quotes, so that each is one string."""
    if not terms or (collection_ids is not None and not collection_ids):
        return None
    wanted = "terms : (" + " OR ".join(f'"{term}"' for term in terms.elements()) + ")"
    if collection_ids is None:
        return wanted
    return f"{wanted} AND scope : (" + " OR ".join(f'"{collection_term(id)}"' for id in collection_ids) + ")"
