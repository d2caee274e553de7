"""A reading connection of the search: collections, the change log, chunks and their vectors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from index.storage.sqlite.catalog import decode_place
from index.storage.sqlite.changes import ChangeBounds, Changes, change_bounds, read_changes
from index.storage.sqlite.database import IS_WATCHED, open_reader, query, snapshot
from index.storage.sqlite.properties import database_id
from index.storage.sqlite.vectors import VectorReader
from index.types import Ids, Passage


class FileRecord(NamedTuple):
    """A document at a path, with the ids of its chunks."""

    collection: str
    collection_id: int
    document_id: int
    state: str
    error: str | None
    note: str | None
    chunk_ids: list[int]


class IndexReader:
    """Owns a connection that only reads. For one thread at a time. Raises `StorageError`; opening it, `DataFolderError`
    as well."""

    def __init__(self, data: Path) -> None:
        self.connection = open_reader(data)
        self.folder = data

    def close(self) -> None:
        self.connection.close()

    def snapshot(self) -> AbstractContextManager[None]:
        """Return a context in which everything is read from one state of the database."""
        return snapshot(self.connection)

    def database_id(self) -> str:
        return database_id(self.connection)

    def version(self) -> int:
        """Return a number that is another one after each commit of another connection."""
        ((version,),) = self._query("PRAGMA data_version")
        return int(version)

    def vectors(self, fingerprint: str, dimension: int) -> VectorReader:
        return VectorReader(self.connection, fingerprint, dimension)

    # The change log

    def change_bounds(self) -> ChangeBounds:
        return change_bounds(self.connection)

    def changes(self, after: int, limit: int) -> Changes | None:
        """Return the next changes after the number `after`, at most `limit`; None when there are none."""
        return read_changes(self.connection, after, limit)

    # Collections

    def collection_ids(self) -> dict[str, int]:
        """Return the ids of the active collections, by name."""
        return dict(self._query("SELECT name, id FROM collections WHERE is_active"))

    def watched_roots(self) -> dict[str, Path]:
        rows = self._query(f"SELECT name, root FROM collections WHERE {IS_WATCHED}")
        return {name: Path(root) for name, root in rows}

    def are_all_documents_in(self, collection_ids: Sequence[int]) -> bool:
        """Return whether no other collection has a document."""
        others = (
            "SELECT 1 FROM collections WHERE id NOT IN (SELECT value FROM json_each(?))"
            " AND EXISTS (SELECT 1 FROM documents WHERE collection_id = collections.id) LIMIT 1"
        )
        return not self._query(others, (_json(collection_ids),))

    # Documents and chunks

    def files_at(self, path: str, collection: str | None) -> list[FileRecord]:
        """Return the documents at this path of a watched collection, or (None) of any, by the collection's name."""
        rows = self._query(
            "SELECT name, collections.id, documents.id, state, documents.error, note FROM documents"
            " JOIN collections ON collections.id = collection_id"
            f" WHERE path = ?1 AND {IS_WATCHED} AND (?2 IS NULL OR name = ?2) ORDER BY name",
            (path, collection),
        )
        return [
            FileRecord(
                collection=name,
                collection_id=collection_id,
                document_id=document_id,
                state=state,
                error=error,
                note=note,
                chunk_ids=[id for (id,) in self._query("SELECT id FROM chunks WHERE document_id = ?", (document_id,))],
            )
            for name, collection_id, document_id, state, error, note in rows
        ]

    def select_documents(
        self, collection_ids: Sequence[int], passes: Callable[[str, int], bool], paths: Iterable[str] | None = None
    ) -> list[int]:
        """Return the ids of the documents in these collections whose path and mtime in nanoseconds pass; those at
        `paths` only, where given."""
        sql = "SELECT path, mtime_ns, id FROM documents WHERE collection_id IN (SELECT value FROM json_each(?))"
        bindings = [_json(collection_ids)]
        if paths is not None:
            sql += " AND path IN (SELECT value FROM json_each(?))"
            bindings.append(_json(list(paths)))
        return [id for path, mtime_ns, id in self._query(sql, bindings) if passes(path, mtime_ns)]

    def chunk_ids(self, document_ids: Sequence[int]) -> Ids:
        """Return the ids of the chunks of these documents, ascending."""
        sql = "SELECT id FROM chunks WHERE document_id IN (SELECT value FROM json_each(?)) ORDER BY id"
        rows = self._query(sql, (_json(document_ids),))
        return np.fromiter((id for (id,) in rows), np.int64, len(rows))

    def passages(self, chunk_ids: Sequence[int]) -> Iterator[Passage]:
        """Yield the chunks that exist of these as passages of score 0, in no order."""
        rows = self._query(
            "SELECT chunks.id, documents.id, collections.name, path, heading, text, line_from, line_to, place, lead"
            " FROM chunks JOIN documents ON documents.id = document_id"
            " JOIN collections ON collections.id = collection_id"
            " WHERE chunks.id IN (SELECT value FROM json_each(?))",
            (_json(chunk_ids),),
        )
        for chunk_id, document_id, collection, path, heading, text, line_from, line_to, place, lead in rows:
            yield Passage(
                chunk_id=chunk_id,
                document_id=document_id,
                collection=collection,
                path=path,
                heading=tuple(msgspec.json.decode(heading)),
                text=text,
                line_from=line_from,
                line_to=line_to,
                score=0.0,
                place=decode_place(place),
                lead=lead,
            )

    def _query(self, sql: str, bindings: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return query(self.connection, sql, bindings)


def _json(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()
