"""The `Catalog` over the index's SQLite file. Opens the file for each question, and reads one snapshot of it."""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

import apsw
import msgspec

from index.storage.records import (
    DOCUMENT_START,
    CollectionStatus,
    DocumentCount,
    DocumentExcerpt,
    DocumentRecord,
    DocumentState,
    ExcerptRange,
    FailedDocument,
    StoredChunk,
    VectorSpace,
)
from index.storage.sqlite.database import (
    IS_WATCHED,
    exists,
    has_current_tables,
    open_any_version,
    open_reader,
    query,
    snapshot,
)
from index.storage.sqlite.properties import read_vector_space
from index.types import Location

_MAX_FAILED = 1000  # failed documents that a status names
_EXCERPT_CHUNKS = 200
_CHUNKS_BEFORE = 20  # chunks of an excerpt that lie before the range that was asked for
_SELECT_DOCUMENT = (
    "SELECT documents.id, name, root, path, size, mtime_ns, state, indexed_at IS NOT NULL, documents.error, note"
    " FROM documents JOIN collections ON collections.id = collection_id WHERE is_active"
)
_IS_SEARCHABLE = "state = 'indexed' OR (state = 'pending' AND indexed_at IS NOT NULL AND documents.error IS NULL)"


class SqliteCatalog:
    def __init__(self, data: Path) -> None:
        self._data = data
        self._collections: frozenset[str] | None = None  # None: all, and uploads

    def seen_by(self, collections: frozenset[str] | None) -> Self:
        if collections is None:
            return self
        restricted = copy.copy(self)
        restricted._collections = collections if self._collections is None else self._collections & collections
        return restricted

    def _may_see(self, collection: str) -> bool:
        return self._collections is None or collection in self._collections

    @contextlib.contextmanager
    def _reading(self) -> Iterator[apsw.Connection | None]:
        """Open a snapshot of the database; None where the indexer has not made it yet."""
        if not has_current_tables(self._data):
            yield None
            return
        with contextlib.closing(open_reader(self._data)) as connection, snapshot(connection):
            yield connection

    def status(self) -> list[CollectionStatus]:
        sql = (
            "SELECT id, name, root, error, scanned_at, changed_at, missing, missing_since FROM collections"
            f" WHERE {IS_WATCHED} ORDER BY name"
        )
        with self._reading() as db:
            rows = query(db, sql) if db else []
            return [_status(db, row) for row in rows if db and self._may_see(row[1])]

    def topic(self) -> str | None:
        with self._reading() as db:
            if db is None:
                return None
            names = query(db, f"SELECT id, name FROM collections WHERE {IS_WATCHED}")
            ids = [id for id, name in names if self._may_see(name)]
            rows = query(
                db,
                "SELECT heading, path FROM chunks JOIN documents ON documents.id = document_id"
                " WHERE collection_id IN (SELECT value FROM json_each(?)) ORDER BY heading = '[]', chunks.id LIMIT 1",
                (_json(ids),),
            )
        for heading, path in rows:
            return str((msgspec.json.decode(heading) or [PurePosixPath(path).stem])[-1])
        return None

    def find_document(self, document_id: int) -> DocumentRecord | None:
        with self._reading() as db:
            return self._find(db, document_id) if db else None

    def _find(self, db: apsw.Connection, document_id: int) -> DocumentRecord | None:
        rows = query(db, f"{_SELECT_DOCUMENT} AND documents.id = ?", (document_id,))
        documents = [document for document in map(_document, rows) if self._may_see(document.collection)]
        return documents[0] if documents else None

    def list_documents(self, collection: str, paths: Iterable[str] | None = None) -> list[DocumentRecord]:
        sql = f"{_SELECT_DOCUMENT} AND name = ?"
        if paths is None:
            return self._documents(f"{sql} ORDER BY documents.id", (collection,))
        sql += " AND path IN (SELECT value FROM json_each(?)) ORDER BY documents.id"
        return self._documents(sql, (collection, _json(list(paths))))

    def list_documents_by_path(
        self, collection: str, limit: int, after: str = "", state: DocumentState | None = None, contains: str = ""
    ) -> list[DocumentRecord]:
        conditions = [("name = ?", collection), ("path > ?", after)]
        conditions += [("state = ?", state)] if state else []
        conditions += [("instr(lower(path), lower(?))", contains)] if contains else []
        where = " AND ".join(condition for condition, _ in conditions)
        bindings = (*(value for _, value in conditions), limit)
        return self._documents(f"{_SELECT_DOCUMENT} AND {where} ORDER BY path LIMIT ?", bindings)

    def _documents(self, sql: str, bindings: tuple[object, ...]) -> list[DocumentRecord]:
        with self._reading() as db:
            rows = query(db, sql, bindings) if db else []
        return [document for document in map(_document, rows) if self._may_see(document.collection)]

    def count_documents(self, collection: str) -> list[DocumentCount]:
        if not self._may_see(collection):
            return []
        sql = (
            f"SELECT state, {_IS_SEARCHABLE}, count(*), sum(max(size, 0)) FROM documents"
            " JOIN collections ON collections.id = collection_id WHERE is_active AND name = ? GROUP BY 1, 2"
        )
        with self._reading() as db:
            rows = query(db, sql, (collection,)) if db else []
        return [
            DocumentCount(state=state, is_searchable=bool(is_searchable), num_documents=num_documents, size=size)
            for state, is_searchable, num_documents, size in rows
        ]

    def count_chunks(self, document_ids: Sequence[int]) -> dict[int, int]:
        sql = (
            "SELECT document_id, name, count(*) FROM chunks JOIN documents ON documents.id = document_id"
            " JOIN collections ON collections.id = collection_id"
            " WHERE is_active AND document_id IN (SELECT value FROM json_each(?)) GROUP BY document_id"
        )
        with self._reading() as db:
            rows = query(db, sql, (_json(list(document_ids)),)) if db else []
        return {id: num_chunks for id, collection, num_chunks in rows if self._may_see(collection)}

    def read_document(self, document_id: int, range: ExcerptRange = DOCUMENT_START) -> DocumentExcerpt | None:
        with self._reading() as db:
            document = self._find(db, document_id) if db else None
            return _excerpt(db, document, range) if db and document else None

    def read_texts(self, document_id: int) -> list[str]:
        with self._reading() as db:
            chunks = _chunks(db, document_id) if db and self._find(db, document_id) else []
        return [chunk.text_with_lead for chunk in chunks]

    def vector_space(self) -> VectorSpace | None:
        if not exists(self._data):
            return None
        with contextlib.closing(open_any_version(self._data)) as connection:
            has_tables = query(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'properties'") != []
            return read_vector_space(connection) if has_tables else None


def _status(db: apsw.Connection, row: tuple[Any, ...]) -> CollectionStatus:
    id, name, root, error, scanned_at, changed_at, missing, missing_since = row
    sql = "SELECT state, count(*), sum(max(size, 0)) FROM documents WHERE collection_id = ? GROUP BY state"
    counts = {state: (num_documents, size) for state, num_documents, size in query(db, sql, (id,))}
    num_indexed, indexed_bytes = counts.get("indexed", (0, 0))
    num_pending, pending_bytes = counts.get("pending", (0, 0))
    sql = "SELECT count(*) FROM chunks JOIN documents ON documents.id = document_id WHERE collection_id = ?"
    ((num_chunks,),) = query(db, sql, (id,))
    sql = "SELECT path, error FROM documents WHERE collection_id = ? AND state = 'failed' ORDER BY path LIMIT ?"
    failed = [FailedDocument(path=path, reason=reason) for path, reason in query(db, sql, (id, _MAX_FAILED))]
    return CollectionStatus(
        name=name,
        root=root,
        documents=num_indexed,
        bytes=indexed_bytes,
        chunks=num_chunks,
        pending=num_pending,
        pending_bytes=pending_bytes,
        failed=failed,
        error=error,
        scanned_at=scanned_at,
        last_change=changed_at,
        missing=missing,
        missing_since=missing_since,
    )


def _document(row: tuple[Any, ...]) -> DocumentRecord:
    id, collection, root, path, size, mtime_ns, state, was_indexed, error, note = row
    return DocumentRecord(
        id=id,
        collection=collection,
        root=root,
        path=path,
        size=size,
        mtime_ns=mtime_ns,
        state=state,
        was_indexed=bool(was_indexed),
        error=error,
        note=note,
    )


def _excerpt(db: apsw.Connection, document: DocumentRecord, range: ExcerptRange) -> DocumentExcerpt:
    ((num_chunks,),) = query(db, "SELECT count(*) FROM chunks WHERE document_id = ?", (document.id,))
    excerpt = DocumentExcerpt(document.collection, document.path, document.note, chunks=[], num_chunks=num_chunks)
    ordinals = _ordinals(db, document.id, range)
    if (range.chunks or range.lines) and not ordinals:
        return excerpt._replace(has_range=False)
    start = min(ordinals.values()) - _CHUNKS_BEFORE if ordinals else range.start or 0
    start = max(0, min(start, num_chunks - _EXCERPT_CHUNKS))
    chunks = _chunks(db, document.id, start, _EXCERPT_CHUNKS)
    return excerpt._replace(chunks=chunks, start=start, highlighted=frozenset(ordinals))


def _ordinals(db: apsw.Connection, document_id: int, range: ExcerptRange) -> dict[int, int]:
    """Return the ordinals of the chunks in the range, by their ids. A chunk begins and ends with a whole line."""
    bounds = range.chunks or range.lines
    if bounds is None:
        return {}
    ordinal = "(SELECT ordinal FROM chunks WHERE document_id = ?1 AND id = {})"
    by_chunks = f"ordinal BETWEEN {ordinal.format('?2')} AND {ordinal.format('?3')}"
    where = by_chunks if range.chunks else "line_to >= ?2 AND line_from <= ?3"
    return dict(query(db, f"SELECT id, ordinal FROM chunks WHERE document_id = ?1 AND {where}", (document_id, *bounds)))


def _chunks(db: apsw.Connection, document_id: int, start: int = 0, limit: int = -1) -> list[StoredChunk]:
    """Return a document's chunks from the ordinal `start` on, at most `limit` of them unless that is negative."""
    rows = query(
        db,
        "SELECT id, heading, text, line_from, line_to, place, lead FROM chunks"
        " WHERE document_id = ? AND ordinal >= ? ORDER BY ordinal LIMIT ?",
        (document_id, start, limit),
    )
    return [
        StoredChunk(
            id=id,
            heading=tuple(msgspec.json.decode(heading)),
            text=text,
            line_from=line_from,
            line_to=line_to,
            place=decode_place(place),
            lead=lead,
        )
        for id, heading, text, line_from, line_to, place, lead in rows
    ]


def decode_place(stored: str | None) -> Location | None:
    """Return the location in the column `place` of `chunks`."""
    return None if stored is None else msgspec.json.decode(stored, type=Location)


def _json(values: list[Any]) -> str:
    return msgspec.json.encode(values).decode()
