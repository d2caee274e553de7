"""What people ask about the index: how far it is, and what a document says. Opens the database for each question."""

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import apsw
import msgspec

from index.storage.sqlite.database import is_made, open_reader, query, snapshot
from index.types import Location
from index.uploads import WATCHED, display_path

_MAX_FAILED = 1000
_SHOWN = 200  # chunks of a document at once
_BEFORE = 20  # of them before the first that is asked for


class FailedDocument(msgspec.Struct, frozen=True):
    path: str
    reason: str


class CollectionStatus(msgspec.Struct, frozen=True):
    """`pending`: files that wait to be read. `bytes` are those of the files. `missing`: documents kept although their
    files are gone, since most of them went at once. Times are Unix seconds; `scanned_at` None: not yet scanned in this
    run."""

    name: str
    root: str
    documents: int
    bytes: int
    chunks: int
    pending: int
    pending_bytes: int
    failed: list[FailedDocument]
    error: str | None
    scanned_at: float | None
    last_change: float | None
    missing: int
    missing_since: float | None


class StoredChunk(NamedTuple):
    id: int
    heading: tuple[str, ...]
    text: str
    line_from: int
    line_to: int
    place: Location | None
    lead: str


class Spot(NamedTuple):
    """Where in a document to look: at chunks, the first and the last of them by their ids, else at lines, both ends in,
    else from the `at`th chunk on, from 0."""

    chunks: tuple[int, int] | None = None
    lines: tuple[int, int] | None = None
    at: int | None = None


BEGINNING = Spot()


class StoredDocument(NamedTuple):
    """Of a large document only the `chunks` around the spot, from the `start`th of `num_chunks` on.

    `note`: what of it could not be read. `cited`: ids of the chunks at the spot. Not `is_found`: nothing is there.
    """

    collection: str
    path: str
    note: str | None
    chunks: list[StoredChunk]
    start: int = 0
    num_chunks: int = 0
    cited: frozenset[int] = frozenset()
    is_found: bool = True

    @property
    def title(self) -> str:
        """As people call it."""
        spoken = display_path(self.path)
        return f"{self.collection}/{self.path}" if spoken == self.path else spoken


@contextlib.contextmanager
def reading(data: Path) -> Iterator[apsw.Connection]:
    connection = open_reader(data)
    try:
        with snapshot(connection):
            yield connection
    finally:
        connection.close()


def read_status(data: Path) -> list[CollectionStatus]:
    """Of every active collection, by name; empty before the indexer's first start."""
    if not is_made(data):
        return []
    with reading(data) as db:
        collections = query(
            db,
            "SELECT id, name, root, error, scanned_at, changed_at, missing, missing_since FROM collections"
            f" WHERE {WATCHED} ORDER BY name",
        )
        return [
            CollectionStatus(name, root, *_counts(db, id), _failed(db, id), *rest)
            for id, name, root, *rest in collections
        ]


def read_topic(data: Path) -> str | None:
    """Something the documents speak of: a heading, else a file's name; None when nothing is indexed."""
    if not is_made(data):
        return None
    with reading(data) as db:
        rows = query(
            db,
            "SELECT heading, path FROM chunks JOIN documents ON documents.id = document_id"
            f" JOIN collections ON collections.id = collection_id WHERE {WATCHED}"
            " ORDER BY heading = '[]', chunks.id LIMIT 1",
        )
    for heading, path in rows:
        return str((msgspec.json.decode(heading) or [PurePosixPath(path).stem])[-1])
    return None


def _counts(db: apsw.Connection, collection_id: int) -> tuple[int, int, int, int, int]:
    """Indexed documents, their bytes, their chunks, pending files, their bytes."""
    rows = query(
        db,
        "SELECT state, count(*), sum(max(size, 0)) FROM documents WHERE collection_id = ? GROUP BY state",
        (collection_id,),
    )
    states = {state: (count, size) for state, count, size in rows}
    ((num_chunks,),) = query(
        db,
        "SELECT count(*) FROM chunks JOIN documents ON documents.id = document_id WHERE collection_id = ?",
        (collection_id,),
    )
    return *states.get("indexed", (0, 0)), num_chunks, *states.get("pending", (0, 0))


def _failed(db: apsw.Connection, collection_id: int) -> list[FailedDocument]:
    rows = query(
        db,
        "SELECT path, error FROM documents WHERE collection_id = ? AND state = 'failed' ORDER BY path LIMIT ?",
        (collection_id, _MAX_FAILED),
    )
    return [FailedDocument(path, error) for path, error in rows]


def read_document(data: Path, document_id: int, spot: Spot = BEGINNING) -> StoredDocument | None:
    """A document of an active collection with its chunks in order; None when there is none of that id."""
    if not is_made(data):
        return None
    with reading(data) as db:
        found = query(
            db,
            "SELECT name, path, note, (SELECT count(*) FROM chunks WHERE document_id = documents.id)"
            " FROM documents JOIN collections ON collections.id = collection_id WHERE documents.id = ? AND is_active",
            (document_id,),
        )
        if not found:
            return None
        ((collection, path, note, num_chunks),) = found
        cited = _cited(db, document_id, spot)
        if (spot.chunks or spot.lines) and not cited:
            return StoredDocument(collection, path, note, [], 0, num_chunks, is_found=False)
        start = min(cited.values()) - _BEFORE if cited else spot.at or 0
        start = max(0, min(start, num_chunks - _SHOWN))
        chunks = _chunks(db, document_id, start)
        return StoredDocument(collection, path, note, chunks, start, num_chunks, frozenset(cited))


def _cited(db: apsw.Connection, document_id: int, spot: Spot) -> dict[int, int]:
    """Their places in the document by their ids. What a chunk is begun and ended by are whole lines."""
    bounds = spot.chunks or spot.lines
    if bounds is None:
        return {}
    ordinal = "(SELECT ordinal FROM chunks WHERE document_id = ?1 AND id = {})"
    by_chunks = f"ordinal BETWEEN {ordinal.format('?2')} AND {ordinal.format('?3')}"
    where = by_chunks if spot.chunks else "line_to >= ?2 AND line_from <= ?3"
    return dict(query(db, f"SELECT id, ordinal FROM chunks WHERE document_id = ?1 AND {where}", (document_id, *bounds)))


def _chunks(db: apsw.Connection, document_id: int, start: int) -> list[StoredChunk]:
    rows = query(
        db,
        "SELECT id, heading, text, line_from, line_to, place, lead FROM chunks"
        " WHERE document_id = ? AND ordinal >= ? ORDER BY ordinal LIMIT ?",
        (document_id, start, _SHOWN),
    )
    return [
        StoredChunk(id, tuple(msgspec.json.decode(heading)), text, first, last, decode_place(place), lead)
        for id, heading, text, first, last, place, lead in rows
    ]


def decode_place(stored: str | None) -> Location | None:
    """From its column in `chunks`."""
    return None if stored is None else msgspec.json.decode(stored, type=Location)
