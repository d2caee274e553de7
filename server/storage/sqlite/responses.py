"""Responses in SQLite, within a number of bytes."""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import apsw

from index.storage.sqlite.database import query, transaction
from server.access.principal import UNRESTRICTED, Principal
from server.errors import ResponseNotFound
from server.storage.records import ResponseRecord
from server.storage.sqlite.database import Database

RESPONSES_FILE = "responses.sqlite3"
_MIGRATIONS = (
    """
    CREATE TABLE responses (
        at INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order they were added in
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,                    -- a principal's, "" where there are no keys
        previous_id TEXT,
        is_over INTEGER NOT NULL,
        response BLOB NOT NULL,                 -- JSON
        items BLOB NOT NULL,                    -- JSON: its own input
        pending BLOB,                           -- JSON: what is needed to make it; NULL when it is over
        used_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX responses_used_at ON responses (used_at);
    CREATE INDEX responses_left ON responses (at) WHERE NOT is_over;

    CREATE TABLE items (
        id TEXT PRIMARY KEY,
        response_at INTEGER NOT NULL REFERENCES responses ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX items_response ON items (response_at);
    """,
)
_SIZE = "length(response) + length(items) + coalesce(length(pending), 0)"  # bytes
_COLUMNS = "id, previous_id, response, items, pending"
_MAX_CHAIN = 10_000  # responses of a conversation


class SqliteResponseStore:
    """A `ResponseStore`. A context manager; entering it raises `DataFolderError`."""

    _principal = UNRESTRICTED

    def __init__(self, data_folder: Path, max_bytes: int) -> None:
        self._database = Database(data_folder / RESPONSES_FILE, _MIGRATIONS)
        self._max_bytes = max_bytes

    def __enter__(self) -> Self:
        self._database.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def seen_by(self, principal: Principal) -> "SqliteResponseStore":
        narrowed = copy.copy(self)
        narrowed._principal = principal
        return narrowed

    async def add(self, record: ResponseRecord) -> None:
        await self._database.run(_add, self._principal, record, self._max_bytes)

    async def get(self, id: str) -> ResponseRecord:
        return await self._database.run(_get, self._principal, id)

    async def history(self, id: str) -> list[ResponseRecord]:
        return await self._database.run(_history, self._principal, id)

    async def find_by_output(self, output_ids: Sequence[str]) -> list[ResponseRecord]:
        return await self._database.run(_find_by_output, self._principal, output_ids)

    async def update(self, record: ResponseRecord) -> bool:
        return await self._database.run(_update, record)

    async def remove(self, id: str) -> None:
        await self._database.run(_remove, self._principal, id)

    async def list_unfinished(self) -> list[str]:
        return await self._database.run(_list_unfinished)


def _add(db: apsw.Connection, principal: Principal, record: ResponseRecord, max_bytes: int) -> None:
    with transaction(db):
        _make_room(db, max_bytes)
        db.execute(
            "INSERT INTO responses (id, owner, previous_id, is_over, response, items, pending, used_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                principal.owner,
                record.previous_id,
                record.is_over,
                record.response,
                record.input_items,
                record.pending,
                time.time(),
            ),
        )
        _add_output_ids(db, record)


def _add_output_ids(db: apsw.Connection, record: ResponseRecord) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO items SELECT ?, at FROM responses WHERE id = ?",
        [(output_id, record.id) for output_id in record.output_ids],
    )


def _make_room(db: apsw.Connection, max_bytes: int) -> None:
    """Delete the responses used least recently until the others fit."""
    ((num_bytes,),) = query(db, f"SELECT coalesce(sum({_SIZE}), 0) FROM responses")
    while num_bytes > max_bytes:
        oldest = query(db, f"SELECT at, {_SIZE} FROM responses WHERE is_over ORDER BY used_at LIMIT 100")
        if not oldest:
            return
        for at, size in oldest:
            if num_bytes > max_bytes:
                db.execute("DELETE FROM responses WHERE at = ?", (at,))
                num_bytes -= size


def _find(db: apsw.Connection, principal: Principal, id: str) -> ResponseRecord:
    for owner, *columns in query(db, f"SELECT owner, {_COLUMNS} FROM responses WHERE id = ?", (id,)):
        if principal.owns(owner):
            return _record(columns)
    raise ResponseNotFound(id)


def _get(db: apsw.Connection, principal: Principal, id: str) -> ResponseRecord:
    record = _find(db, principal, id)
    db.execute("UPDATE responses SET used_at = ? WHERE id = ?", (time.time(), id))
    return record


def _history(db: apsw.Connection, principal: Principal, id: str) -> list[ResponseRecord]:
    chain: list[ResponseRecord] = []
    next_id: str | None = id
    while next_id is not None and len(chain) < _MAX_CHAIN:
        chain.append(_get(db, principal, next_id))
        next_id = chain[-1].previous_id
    return chain[::-1]


def _find_by_output(db: apsw.Connection, principal: Principal, output_ids: Sequence[str]) -> list[ResponseRecord]:
    columns = ", ".join(f"responses.{column}" for column in _COLUMNS.split(", "))
    sql = f"SELECT DISTINCT owner, {columns} FROM items JOIN responses ON at = response_at WHERE items.id = ?"
    rows = [row for output_id in output_ids for row in query(db, sql, (output_id,))]
    return [_record(columns) for owner, *columns in rows if principal.owns(owner)]


def _update(db: apsw.Connection, record: ResponseRecord) -> bool:
    with transaction(db):
        db.execute(
            "UPDATE responses SET response = ?, is_over = ?, pending = ?, used_at = ? WHERE id = ? AND NOT is_over",
            (record.response, record.is_over, record.pending, time.time(), record.id),
        )
        is_changed = bool(db.changes())
        if is_changed:
            _add_output_ids(db, record)
    return is_changed


def _remove(db: apsw.Connection, principal: Principal, id: str) -> None:
    _find(db, principal, id)
    db.execute("DELETE FROM responses WHERE id = ?", (id,))


def _list_unfinished(db: apsw.Connection) -> list[str]:
    return [id for (id,) in query(db, "SELECT id FROM responses WHERE NOT is_over ORDER BY at")]


def _record(columns: Sequence[Any]) -> ResponseRecord:
    id, previous_id, response, items, pending = columns
    return ResponseRecord(id=id, previous_id=previous_id, response=response, input_items=items, pending=pending)
