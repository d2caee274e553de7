"""Responses that were made or are to be made in the background, in SQLite, within a number of bytes.

The ones used least recently go first; one that is still to be made never does. A conversation is a chain of responses,
each with its own input and output, so going on with one counts as a use of all before it.
"""

import asyncio
import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw
import msgspec

from index.storage.sqlite.database import query, storage_errors, transaction
from server.access.principal import UNRESTRICTED, Principal
from server.api.responses.wire import Item, ResponseObject, ResponseRequest
from server.errors import ResponseNotCancellable, ResponseNotFound
from server.storage.sqlite.database import open_private

FILE = "responses.sqlite3"
_VERSION = 1
_SCHEMA = """
    CREATE TABLE responses (
        at INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order they were asked for
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,                    -- the key's id, "" where there are none
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
"""
_SIZE = "length(response) + length(items) + coalesce(length(pending), 0)"
_LONGEST_CHAIN = 10_000

T = TypeVar("T")


class Pending(msgspec.Struct, frozen=True):
    """What is needed to make a response later, also after a restart. `base_url`: the address its links begin with."""

    request: ResponseRequest
    base_url: str
    principal: Principal


class Stored(msgspec.Struct, frozen=True):
    """`items`: the response's own input. `pending` is None when it is over."""

    response: ResponseObject
    items: list[Item]
    pending: Pending | None = None


class ResponseStore:
    """Owns its file and the one thread that touches it. A context manager. Raises `DataFolderError` when the file
    cannot be opened; of what the principal may not see there is nothing."""

    _principal = UNRESTRICTED

    def __init__(self, data: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="responses")
        self._db: apsw.Connection = self._thread.submit(open_private, data / FILE, _SCHEMA, _VERSION).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    def seen_by(self, principal: Principal) -> "ResponseStore":
        """The same, as far as it may see."""
        seen = copy.copy(self)
        seen._principal = principal
        return seen

    async def add(self, stored: Stored) -> None:
        """What is added last may be larger than all there is room for; it goes with the next one."""
        await self._run(self._add, stored)

    async def get(self, id: str) -> Stored:
        """Raises `ResponseNotFound`."""
        return await self._run(self._get, id)

    async def history(self, id: str) -> list[Item]:
        """Input and output of all responses up to this one. Raises `ResponseNotFound`, also for one before it."""
        return await self._run(self._history, id)

    async def items(self, ids: Sequence[str]) -> dict[str, Item]:
        """Those of any response that are known."""
        return await self._run(self._items, ids)

    async def remove(self, id: str) -> None:
        """Raises `ResponseNotFound`."""
        await self._run(self._remove, id)

    async def cancel(self, id: str) -> ResponseObject:
        """Raises `ResponseNotFound`, `ResponseNotCancellable`."""
        return await self._run(self._cancel, id)

    async def unfinished(self) -> list[str]:
        """Ids, in the order they were asked for."""
        return await self._run(self._unfinished)

    async def change(self, response: ResponseObject, *, is_over: bool) -> bool:
        """Of one that is not over; False when it is, or is gone, by now."""
        return await self._run(self._change, response, is_over)

    # On the thread

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, storage_errors()(work), *arguments)

    def _add(self, stored: Stored) -> None:
        response = stored.response
        with transaction(self._db):
            self._make_room()
            self._db.execute(
                "INSERT INTO responses (id, owner, previous_id, is_over, response, items, pending, used_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    response.id,
                    self._principal.owner,
                    response.previous_response_id,
                    stored.pending is None,
                    msgspec.json.encode(response),
                    msgspec.json.encode(stored.items),
                    None if stored.pending is None else msgspec.json.encode(stored.pending),
                    time.time(),
                ),
            )
            self._note_items(response)

    def _note_items(self, response: ResponseObject) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO items SELECT ?, at FROM responses WHERE id = ?",
            [(item.id, response.id) for item in response.output],
        )

    def _make_room(self) -> None:
        ((size,),) = query(self._db, f"SELECT coalesce(sum({_SIZE}), 0) FROM responses")
        while size > self._max_bytes:
            oldest = query(self._db, f"SELECT at, {_SIZE} FROM responses WHERE is_over ORDER BY used_at LIMIT 100")
            if not oldest:
                return
            for at, its_size in oldest:
                if size > self._max_bytes:
                    self._db.execute("DELETE FROM responses WHERE at = ?", (at,))
                    size -= its_size

    def _rows(self, id: str, columns: str) -> tuple[Any, ...]:
        rows = query(self._db, f"SELECT owner, {columns} FROM responses WHERE id = ?", (id,))
        if not rows or not self._principal.owns(rows[0][0]):
            raise ResponseNotFound(id)
        return rows[0][1:]

    def _get(self, id: str) -> Stored:
        response, items, pending = self._rows(id, "response, items, pending")
        self._db.execute("UPDATE responses SET used_at = ? WHERE id = ?", (time.time(), id))
        return Stored(
            msgspec.json.decode(response, type=ResponseObject),
            msgspec.json.decode(items, type=list[Item]),
            None if pending is None else msgspec.json.decode(pending, type=Pending),
        )

    def _history(self, id: str) -> list[Item]:
        turns: list[list[Item]] = []
        following: str | None = id
        while following is not None and len(turns) < _LONGEST_CHAIN:
            response, items, before = self._rows(following, "response, items, previous_id")
            told = msgspec.json.decode(response, type=_Told)
            turns.append([*msgspec.json.decode(items, type=list[Item]), *told.output])
            self._db.execute("UPDATE responses SET used_at = ? WHERE id = ?", (time.time(), following))
            following = before
        return [item for turn in reversed(turns) for item in turn]

    def _items(self, ids: Sequence[str]) -> dict[str, Item]:
        found = {}
        for id in ids:
            rows = query(
                self._db, "SELECT responses.id FROM items JOIN responses ON at = response_at WHERE items.id = ?", (id,)
            )
            for (response_id,) in rows:
                try:
                    (response,) = self._rows(response_id, "response")
                except ResponseNotFound:
                    continue
                told = msgspec.json.decode(response, type=_Told)
                found.update({item.id: item for item in told.output if item.id == id})
        return found

    def _remove(self, id: str) -> None:
        self._rows(id, "at")
        self._db.execute("DELETE FROM responses WHERE id = ?", (id,))

    def _cancel(self, id: str) -> ResponseObject:
        response = self._get(id).response
        if not response.background or response.status not in ("queued", "in_progress", "cancelled"):
            raise ResponseNotCancellable(id, response.status, is_background=response.background)
        cancelled = msgspec.structs.replace(response, status="cancelled")
        self._change(cancelled, True)
        return cancelled

    def _unfinished(self) -> list[str]:
        return [id for (id,) in query(self._db, "SELECT id FROM responses WHERE NOT is_over ORDER BY at")]

    def _change(self, response: ResponseObject, is_over: bool) -> bool:
        with transaction(self._db):
            self._db.execute(
                "UPDATE responses SET response = ?1, is_over = ?2, pending = CASE WHEN ?2 THEN NULL ELSE pending END,"
                " used_at = ?3 WHERE id = ?4 AND NOT is_over",
                (msgspec.json.encode(response), is_over, time.time(), response.id),
            )
            is_changed = bool(self._db.changes())
            if is_changed:
                self._note_items(response)
        return is_changed


class _Told(msgspec.Struct):
    """A response's output as the conversation goes on with it."""

    output: list[Item]
