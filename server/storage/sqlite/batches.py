"""Batches and their lines in SQLite: a line whose outcome is committed is never run again."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import apsw
import msgspec

from index.storage.sqlite.database import query, transaction
from server.access.principal import UNRESTRICTED, Principal
from server.errors import BatchNotFound, TooManyBatches
from server.storage.records import BatchLine, BatchOptions, BatchRecord, LineOutcome, LineResult
from server.storage.sqlite.database import Database

BATCHES_FILE = "batches.sqlite3"
_MIGRATIONS = (
    """
    CREATE TABLE batches (
        at INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order they were added in
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,                    -- a principal's, "" where there are no keys
        is_over INTEGER NOT NULL,
        batch BLOB NOT NULL,                    -- JSON
        order_ BLOB NOT NULL                    -- JSON: BatchOptions
    ) STRICT;
    CREATE INDEX batches_left ON batches (at) WHERE NOT is_over;

    CREATE TABLE lines (
        batch_at INTEGER NOT NULL REFERENCES batches ON DELETE CASCADE,
        number INTEGER NOT NULL,                -- from 1
        custom_id TEXT NOT NULL,
        body BLOB NOT NULL,                     -- JSON
        is_error INTEGER,                       -- NULL: it has no outcome yet
        output BLOB,                            -- JSON: its line of the output or error file
        PRIMARY KEY (batch_at, number)
    ) STRICT, WITHOUT ROWID;
    """,
    # From the JSON of the wire's batch to that of BatchRecord.
    """
    UPDATE batches SET batch = CAST(json_set(CAST(batch AS TEXT), '$.usage', json_object(
        'input', json_extract(CAST(batch AS TEXT), '$.usage.input_tokens'),
        'cached', json_extract(CAST(batch AS TEXT), '$.usage.input_tokens_details.cached_tokens'),
        'output', json_extract(CAST(batch AS TEXT), '$.usage.output_tokens'),
        'reasoning', json_extract(CAST(batch AS TEXT), '$.usage.output_tokens_details.reasoning_tokens')
    )) AS BLOB) WHERE json_extract(CAST(batch AS TEXT), '$.usage') IS NOT NULL;
    UPDATE batches SET batch = CAST(json_set(CAST(batch AS TEXT), '$.errors',
        json(coalesce(json_extract(CAST(batch AS TEXT), '$.errors.data'), '[]'))) AS BLOB);
    """,
)
_MAX_UNFINISHED = 100  # batches
_AT = "(SELECT at FROM batches WHERE id = ?)"

Change = Callable[[BatchRecord], BatchRecord]


class SqliteBatchStore:
    """A `BatchStore`. A context manager; entering it raises `DataFolderError`."""

    _principal = UNRESTRICTED

    def __init__(self, data_folder: Path) -> None:
        self._database = Database(data_folder / BATCHES_FILE, _MIGRATIONS)

    def __enter__(self) -> Self:
        self._database.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def seen_by(self, principal: Principal) -> "SqliteBatchStore":
        narrowed = copy.copy(self)
        narrowed._principal = principal
        return narrowed

    async def add(self, batch: BatchRecord, options: BatchOptions) -> None:
        await self._database.run(_add, self._principal, batch, options)

    async def get(self, id: str) -> BatchRecord:
        return await self._database.run(_get, self._principal, id)

    async def options(self, id: str) -> BatchOptions:
        return await self._database.run(_options, self._principal, id)

    async def list_batches(self) -> list[BatchRecord]:
        return await self._database.run(_list_batches, self._principal)

    async def list_unfinished(self) -> list[BatchRecord]:
        return await self._database.run(_list_unfinished)

    async def update(self, id: str, change: Change) -> BatchRecord:
        return await self._database.run(_update, self._principal, id, change)

    async def clear_lines(self, id: str) -> None:
        await self._database.run(_clear_lines, id)

    async def add_lines(self, id: str, lines: Sequence[BatchLine]) -> None:
        await self._database.run(_add_lines, id, lines)

    async def undone_line(self, id: str, number: int) -> BatchLine | None:
        return await self._database.run(_undone_line, id, number)

    async def undone_numbers(self, id: str) -> list[int]:
        return await self._database.run(_undone_numbers, id)

    async def finish_line(self, id: str, number: int, outcome: LineOutcome, change: Change) -> BatchRecord | None:
        return await self._database.run(_finish_line, self._principal, id, number, outcome, change)

    async def results(self, id: str, after: int, limit: int) -> list[LineResult]:
        return await self._database.run(_results, id, after, limit)


def _add(db: apsw.Connection, principal: Principal, batch: BatchRecord, options: BatchOptions) -> None:
    with transaction(db):
        if len(_list_unfinished(db)) >= _MAX_UNFINISHED:
            raise TooManyBatches(_MAX_UNFINISHED)
        db.execute(
            "INSERT INTO batches (id, owner, is_over, batch, order_) VALUES (?, ?, ?, ?, ?)",
            (batch.id, principal.owner, batch.is_over, msgspec.json.encode(batch), msgspec.json.encode(options)),
        )


def _get(db: apsw.Connection, principal: Principal, id: str) -> BatchRecord:
    for owner, batch in query(db, "SELECT owner, batch FROM batches WHERE id = ?", (id,)):
        if principal.owns(owner):
            return _decode(batch)
    raise BatchNotFound(id)


def _options(db: apsw.Connection, principal: Principal, id: str) -> BatchOptions:
    for owner, options in query(db, "SELECT owner, order_ FROM batches WHERE id = ?", (id,)):
        if principal.owns(owner):
            return msgspec.json.decode(options, type=BatchOptions)
    raise BatchNotFound(id)


def _list_batches(db: apsw.Connection, principal: Principal) -> list[BatchRecord]:
    rows = query(db, "SELECT owner, batch FROM batches ORDER BY at")
    return [_decode(batch) for owner, batch in rows if principal.owns(owner)]


def _list_unfinished(db: apsw.Connection) -> list[BatchRecord]:
    return [_decode(batch) for (batch,) in query(db, "SELECT batch FROM batches WHERE NOT is_over ORDER BY at")]


def _update(db: apsw.Connection, principal: Principal, id: str, change: Change) -> BatchRecord:
    with transaction(db):
        return _replace(db, change(_get(db, principal, id)))


def _replace(db: apsw.Connection, batch: BatchRecord) -> BatchRecord:
    db.execute(
        "UPDATE batches SET batch = ?, is_over = ? WHERE id = ?", (msgspec.json.encode(batch), batch.is_over, batch.id)
    )
    if batch.is_over:
        _clear_lines(db, batch.id)
    return batch


def _clear_lines(db: apsw.Connection, id: str) -> None:
    db.execute(f"DELETE FROM lines WHERE batch_at = {_AT}", (id,))


def _add_lines(db: apsw.Connection, id: str, lines: Sequence[BatchLine]) -> None:
    with transaction(db):
        db.executemany(
            f"INSERT INTO lines (batch_at, number, custom_id, body) VALUES ({_AT}, ?, ?, ?)",
            [(id, line.number, line.custom_id, line.body) for line in lines],
        )


def _undone_line(db: apsw.Connection, id: str, number: int) -> BatchLine | None:
    sql = f"SELECT custom_id, body FROM lines WHERE batch_at = {_AT} AND number = ? AND is_error IS NULL"
    for custom_id, body in query(db, sql, (id, number)):
        return BatchLine(number, custom_id, body)
    return None


def _undone_numbers(db: apsw.Connection, id: str) -> list[int]:
    sql = f"SELECT number FROM lines WHERE batch_at = {_AT} AND is_error IS NULL ORDER BY number"
    return [number for (number,) in query(db, sql, (id,))]


def _finish_line(
    db: apsw.Connection, principal: Principal, id: str, number: int, outcome: LineOutcome, change: Change
) -> BatchRecord | None:
    with transaction(db):
        batch = _get(db, principal, id)
        if batch.status != "in_progress":
            return None
        db.execute(
            f"UPDATE lines SET is_error = ?, output = ? WHERE batch_at = {_AT} AND number = ? AND is_error IS NULL",
            (outcome.is_error, outcome.output, id, number),
        )
        return _replace(db, change(batch)) if db.changes() else None


def _results(db: apsw.Connection, id: str, after: int, limit: int) -> list[LineResult]:
    rows = query(
        db,
        f"SELECT number, custom_id, output, is_error FROM lines WHERE batch_at = {_AT} AND number > ?"
        " ORDER BY number LIMIT ?",
        (id, after, limit),
    )
    return [
        LineResult(number, custom_id, None if is_error is None else LineOutcome(output, bool(is_error)))
        for number, custom_id, output, is_error in rows
    ]


def _decode(batch: bytes) -> BatchRecord:
    return msgspec.json.decode(batch, type=BatchRecord)
