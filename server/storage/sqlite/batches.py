"""Batches and their lines in SQLite: what is committed of a line is done, and is never done again.

A batch's lines are there until its files are written; the batch itself stays.
"""

import asyncio
import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import apsw
import msgspec

from index.storage.sqlite.database import query, storage_errors, transaction
from server.access.principal import UNRESTRICTED, Principal
from server.api.batches.wire import Batch
from server.errors import BatchNotFound, TooManyBatches
from server.storage.sqlite.database import open_private

FILE = "batches.sqlite3"
OVER = ("failed", "completed", "expired", "cancelled")
_VERSION = 1
_SCHEMA = """
    CREATE TABLE batches (
        at INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order they were made
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,                    -- the key's id, "" where there are none
        is_over INTEGER NOT NULL,
        batch BLOB NOT NULL,                    -- JSON
        order_ BLOB NOT NULL                    -- JSON: how its lines are to be run
    ) STRICT;
    CREATE INDEX batches_left ON batches (at) WHERE NOT is_over;

    CREATE TABLE lines (
        batch_at INTEGER NOT NULL REFERENCES batches ON DELETE CASCADE,
        number INTEGER NOT NULL,                -- from 1
        custom_id TEXT NOT NULL,
        body BLOB NOT NULL,                     -- JSON
        is_error INTEGER,                       -- NULL: not done
        output BLOB,                            -- JSON: its line of the output or error file
        PRIMARY KEY (batch_at, number)
    ) STRICT, WITHOUT ROWID;
"""
_MOST_LEFT = 100  # batches that are not over
_AT = "(SELECT at FROM batches WHERE id = ?)"

T = TypeVar("T")


class Order(msgspec.Struct, frozen=True):
    """`keep_s`: seconds after which the batch's files expire."""

    principal: Principal
    base_url: str
    keep_s: int | None = None


class Line(NamedTuple):
    number: int
    custom_id: str
    body: bytes


class Done(NamedTuple):
    """A line's outcome, as it stands in a file."""

    output: bytes
    is_error: bool


class BatchStore:
    """Owns its file and the one thread that touches it. A context manager. Raises `DataFolderError` when the file
    cannot be opened; of what the principal may not see there is nothing."""

    _principal = UNRESTRICTED

    def __init__(self, data: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._db: apsw.Connection = self._thread.submit(open_private, data / FILE, _SCHEMA, _VERSION).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    def seen_by(self, principal: Principal) -> "BatchStore":
        """The same, as far as it may see."""
        seen = copy.copy(self)
        seen._principal = principal
        return seen

    async def add(self, batch: Batch, order: Order) -> None:
        """Raises `TooManyBatches`."""
        await self._run(self._add, batch, order)

    async def get(self, id: str) -> Batch:
        """Raises `BatchNotFound`."""
        return await self._run(self._get, id)

    async def batches(self) -> list[Batch]:
        """In the order they were made."""
        return await self._run(self._batches)

    async def unfinished(self) -> list[Batch]:
        return await self._run(self._unfinished)

    async def order(self, id: str) -> Order:
        return await self._run(self._order, id)

    async def change(self, id: str, change: Callable[[Batch], Batch]) -> Batch:
        """What `change` makes of it as it is now. When it is over, its lines go. Raises `BatchNotFound`."""
        return await self._run(self._change, id, change)

    async def clear_lines(self, id: str) -> None:
        await self._run(self._clear_lines, id)

    async def add_lines(self, id: str, lines: Sequence[Line]) -> None:
        await self._run(self._add_lines, id, lines)

    async def next_line(self, id: str, after: int) -> Line | None:
        """The first behind `after` that is not done."""
        return await self._run(self._next_line, id, after)

    async def finish_line(self, id: str, number: int, done: Done, change: Callable[[Batch], Batch]) -> None:
        """Both or neither: the line is done, and the batch is what `change` makes of it."""
        await self._run(self._finish_line, id, number, done, change)

    async def lines(self, id: str, after: int, most: int) -> list[tuple[Line, Done | None]]:
        """The next ones, without their bodies."""
        return await self._run(self._lines, id, after, most)

    # On the thread

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, storage_errors()(work), *arguments)

    def _add(self, batch: Batch, order: Order) -> None:
        if len(self._unfinished()) >= _MOST_LEFT:
            raise TooManyBatches(_MOST_LEFT)
        self._db.execute(
            "INSERT INTO batches (id, owner, is_over, batch, order_) VALUES (?, ?, 0, ?, ?)",
            (batch.id, self._principal.owner, msgspec.json.encode(batch), msgspec.json.encode(order)),
        )

    def _get(self, id: str) -> Batch:
        for owner, batch in query(self._db, "SELECT owner, batch FROM batches WHERE id = ?", (id,)):
            if self._principal.owns(owner):
                return msgspec.json.decode(batch, type=Batch)
        raise BatchNotFound(id)

    def _batches(self) -> list[Batch]:
        rows = query(self._db, "SELECT owner, batch FROM batches ORDER BY at")
        return [msgspec.json.decode(batch, type=Batch) for owner, batch in rows if self._principal.owns(owner)]

    def _unfinished(self) -> list[Batch]:
        rows = query(self._db, "SELECT batch FROM batches WHERE NOT is_over ORDER BY at")
        return [msgspec.json.decode(batch, type=Batch) for (batch,) in rows]

    def _order(self, id: str) -> Order:
        for (order,) in query(self._db, "SELECT order_ FROM batches WHERE id = ?", (id,)):
            return msgspec.json.decode(order, type=Order)
        raise BatchNotFound(id)

    def _change(self, id: str, change: Callable[[Batch], Batch]) -> Batch:
        with transaction(self._db):
            return self._changed(id, change)

    def _changed(self, id: str, change: Callable[[Batch], Batch]) -> Batch:
        changed = change(self._get(id))
        is_over = changed.status in OVER
        self._db.execute(
            "UPDATE batches SET batch = ?, is_over = ? WHERE id = ?", (msgspec.json.encode(changed), is_over, id)
        )
        if is_over:
            self._clear_lines(id)
        return changed

    def _clear_lines(self, id: str) -> None:
        self._db.execute(f"DELETE FROM lines WHERE batch_at = {_AT}", (id,))

    def _add_lines(self, id: str, lines: Sequence[Line]) -> None:
        with transaction(self._db):
            self._db.executemany(
                f"INSERT INTO lines (batch_at, number, custom_id, body) VALUES ({_AT}, ?, ?, ?)",
                [(id, *line) for line in lines],
            )

    def _next_line(self, id: str, after: int) -> Line | None:
        rows = query(
            self._db,
            f"SELECT number, custom_id, body FROM lines WHERE batch_at = {_AT} AND number > ? AND is_error IS NULL"
            " ORDER BY number LIMIT 1",
            (id, after),
        )
        return Line(*rows[0]) if rows else None

    def _finish_line(self, id: str, number: int, done: Done, change: Callable[[Batch], Batch]) -> None:
        with transaction(self._db):
            self._db.execute(
                f"UPDATE lines SET is_error = ?, output = ? WHERE batch_at = {_AT} AND number = ? AND is_error IS NULL",
                (done.is_error, done.output, id, number),
            )
            if self._db.changes():
                self._changed(id, change)

    def _lines(self, id: str, after: int, most: int) -> list[tuple[Line, Done | None]]:
        rows = query(
            self._db,
            f"SELECT number, custom_id, output, is_error FROM lines WHERE batch_at = {_AT} AND number > ?"
            " ORDER BY number LIMIT ?",
            (id, after, most),
        )
        return [
            (Line(number, custom_id, b""), None if is_error is None else Done(output, bool(is_error)))
            for number, custom_id, output, is_error in rows
        ]
