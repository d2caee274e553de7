"""The terms of a chunk, as both engines index them."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import apsw
import msgspec

from index.lexical.analyzer import Analyzer
from index.storage.sqlite.database import query
from index.types import with_lead
from index.uploads import display_path

# A heading counts this many times. It is repeated in one field, and not weighted in two, so that the engines agree.
_HEADING_WEIGHT = 3


class Row(NamedTuple):
    chunk_id: int
    terms: str  # separated by a space
    scope: str  # terms as well: the collection, and the language by which the words were stemmed


def make_row(
    analyzer: Analyzer, chunk_id: int, collection_id: int, path: str, heading: Sequence[str], text: str
) -> Row:
    """Return the row of a chunk: its text, its headings and the name of its file."""
    name = str(PurePosixPath(display_path(path)).with_suffix(""))
    headings, body = analyzer.document(" ".join((name, *heading))).terms, analyzer.document(text)
    terms = " ".join(filter(None, (*(headings,) * _HEADING_WEIGHT, body.terms)))
    return Row(chunk_id, terms, f"{collection_term(collection_id)} {language_term(body.language)}")


def collection_term(collection_id: int) -> str:
    return f"c{collection_id}"


def language_term(language: str) -> str:
    return f"l{language}"


_SELECT = (
    "SELECT chunks.id, collection_id, path, heading, lead, text FROM chunks"
    " JOIN documents ON documents.id = document_id"
    " WHERE chunks.id "
)


def rows_between(db: apsw.Connection, analyzer: Analyzer, first: int, last: int, limit: int) -> list[Row]:
    """Return the rows of the chunks with these ids, both ends included, by id; at most `limit`."""
    return list(_rows(db, analyzer, f"{_SELECT} BETWEEN ? AND ? ORDER BY chunks.id LIMIT ?", (first, last, limit)))


def rows_of(db: apsw.Connection, analyzer: Analyzer, chunk_ids: Sequence[int]) -> list[Row]:
    """Return the rows of those of these chunks that exist."""
    ids = msgspec.json.encode(list(chunk_ids)).decode()
    return list(_rows(db, analyzer, f"{_SELECT} IN (SELECT value FROM json_each(?))", (ids,)))


def _rows(db: apsw.Connection, analyzer: Analyzer, sql: str, bindings: Sequence[object]) -> Iterator[Row]:
    for chunk_id, collection_id, path, heading, lead, text in query(db, sql, bindings):
        headings = msgspec.json.decode(heading, type=list[str])
        yield make_row(analyzer, chunk_id, collection_id, path, headings, with_lead(lead, text))
