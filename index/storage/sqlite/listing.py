"""Documents of a collection as a list, and what one says. Opens the database for each question."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from index.storage.sqlite.catalog import reading
from index.storage.sqlite.database import is_made, query
from index.types import with_lead

_COLUMNS = "documents.id, name, root, path, size, mtime_ns, state, documents.error, indexed_at IS NOT NULL"
_FROM = "FROM documents JOIN collections ON collections.id = collection_id WHERE is_active"

State = Literal["pending", "indexed", "failed"]


class ListedDocument(NamedTuple):
    """`size` is in bytes. `was_read`, 0 or 1: it was once, whatever it waits for now. `error`: why it cannot be."""

    id: int
    collection: str
    root: str
    path: str
    size: int
    mtime_ns: int
    state: str
    error: str | None
    was_read: int


def list_documents(data: Path, collection: str, paths: Iterable[str] | None = None) -> list[ListedDocument]:
    """In the order they were first seen; only those of these paths, when given."""
    if paths is None:
        return _listed(data, f"SELECT {_COLUMNS} {_FROM} AND name = ? ORDER BY documents.id", (collection,))
    wanted = msgspec.json.encode(list(paths)).decode()
    sql = f"SELECT {_COLUMNS} {_FROM} AND name = ? AND path IN (SELECT value FROM json_each(?)) ORDER BY documents.id"
    return _listed(data, sql, (collection, wanted))


class IndexedDocument(NamedTuple):
    """`size` is in bytes. `reason`: why it cannot be read; `note`: what of it could not be."""

    id: int
    path: str
    size: int
    mtime_ns: int
    state: State
    reason: str | None
    note: str | None
    num_chunks: int


def list_states(
    data: Path, collection: str, limit: int, after: str = "", state: State | None = None, part: str = ""
) -> list[IndexedDocument]:
    """By path, behind the path `after`; only those in `state`, and with `part` in their paths."""
    columns = "documents.id, path, size, mtime_ns, state, documents.error, note"
    num_chunks = "(SELECT count(*) FROM chunks WHERE document_id = documents.id)"
    wanted = [("name = ?", collection), ("path > ?", after)]
    wanted += [("state = ?", state)] if state else []
    wanted += [("instr(lower(path), lower(?))", part)] if part else []
    where = " AND ".join(condition for condition, _ in wanted)
    sql = f"SELECT {columns}, {num_chunks} {_FROM} AND {where} ORDER BY path LIMIT ?"
    return [IndexedDocument(*row) for row in _rows(data, sql, (*(value for _, value in wanted), limit))]


class Tally(NamedTuple):
    """Documents alike, as of `ListedDocument`, and the bytes of their files."""

    state: str
    is_searched: bool
    num: int
    size: int


def tally(data: Path, collection: str) -> list[Tally]:
    """`is_searched`: as it is now, or as it was before what it waits for."""
    is_searched = "state = 'indexed' OR (state = 'pending' AND indexed_at IS NOT NULL AND documents.error IS NULL)"
    sql = f"SELECT state, {is_searched}, count(*), sum(max(size, 0)) {_FROM} AND name = ? GROUP BY 1, 2"
    return [Tally(state, bool(found), num, size) for state, found, num, size in _rows(data, sql, (collection,))]


def find_document(data: Path, id: int) -> ListedDocument | None:
    """Of an active collection."""
    return next(iter(_listed(data, f"SELECT {_COLUMNS} {_FROM} AND documents.id = ?", (id,))), None)


def read_texts(data: Path, document_id: int) -> list[str]:
    """Of its chunks, in order."""
    with reading(data) as db:
        rows = query(db, "SELECT lead, text FROM chunks WHERE document_id = ? ORDER BY ordinal", (document_id,))
    return [with_lead(lead, text) for lead, text in rows]


def _listed(data: Path, sql: str, bindings: tuple[object, ...]) -> list[ListedDocument]:
    return [ListedDocument(*row) for row in _rows(data, sql, bindings)]


def _rows(data: Path, sql: str, bindings: tuple[object, ...]) -> list[tuple[Any, ...]]:
    if not is_made(data):
        return []
    with reading(data) as db:
        return query(db, sql, bindings)
