"""What turns were grounded on, kept so that a conversation reads the same each time it is sent, also after a restart.

A cache: what is lost is searched for again, and the conversation reads a little differently from then on. Bounded by
bytes; the conversations that were used least recently go first. It keeps passages of documents, as the index does.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw
import msgspec

from index.errors import StorageDamaged, StorageError
from index.storage.sqlite.database import storage_errors
from server.rag.history import Turn

_VERSION = 1  # of the file; another one's content is not understood, and goes
_SCHEMA = """
    CREATE TABLE turns (
        key BLOB PRIMARY KEY,
        turn BLOB NOT NULL,      -- msgpack of a Turn
        used_at REAL NOT NULL    -- Unix seconds
    ) WITHOUT ROWID;
    CREATE INDEX turns_used_at ON turns (used_at);
"""
_WANTED = "key IN (SELECT unhex(value) FROM json_each(?))"

T = TypeVar("T")


class TurnMemory:
    """Owns its file and the one thread that touches it: what was remembered is there for whoever asks next."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turns")
        self._db: apsw.Connection | None = None
        self._size = 0

    async def recall(self, keys: Sequence[bytes]) -> Mapping[bytes, Turn]:
        """Those that are known; none when the file cannot be read."""
        return await self._run(self._recall, keys, {})

    def remember(self, key: bytes, turn: Turn) -> None:
        """In the background. What cannot be written is forgotten."""
        self._thread.submit(self._safely, self._remember, (key, turn), None)

    async def _run(self, work: Callable[..., T], argument: object, otherwise: T) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._safely, work, (argument,), otherwise)

    def _safely(self, work: Callable[..., T], arguments: tuple[Any, ...], otherwise: T) -> T:
        """A damaged file is begun anew, once; a full disk costs what there is to remember."""
        work = storage_errors()(work)
        with contextlib.suppress(StorageError, OSError):
            try:
                return work(*arguments)
            except (StorageDamaged, msgspec.DecodeError):
                self._disconnect()
                for suffix in ("", "-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                return work(*arguments)
        return otherwise

    def _connection(self) -> apsw.Connection:
        if self._db is None:
            db = apsw.Connection(str(self._path))
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _prepare(self, db: apsw.Connection) -> None:
        self._path.chmod(0o600)
        db.set_busy_timeout(5000)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
            db.execute(f"PRAGMA {pragma}")
        ((version,),) = db.execute("PRAGMA user_version")
        if version != _VERSION:
            with db:
                db.execute("DROP TABLE IF EXISTS turns")
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA user_version = {_VERSION}")
        ((self._size,),) = db.execute("SELECT coalesce(sum(length(turn)), 0) FROM turns")

    def _recall(self, keys: Sequence[bytes]) -> dict[bytes, Turn]:
        db, wanted = self._connection(), msgspec.json.encode([key.hex() for key in keys]).decode()
        with db:
            rows = list(db.execute(f"SELECT key, turn FROM turns WHERE {_WANTED}", (wanted,)))
            db.execute(f"UPDATE turns SET used_at = ? WHERE {_WANTED}", (time.time(), wanted))
        return {key: msgspec.msgpack.decode(turn, type=Turn) for key, turn in rows}

    def _remember(self, key: bytes, turn: Turn) -> None:
        db, encoded = self._connection(), msgspec.msgpack.encode(turn)
        with db:
            replaced = list(db.execute("SELECT length(turn) FROM turns WHERE key = ?", (key,)))
            db.execute("INSERT OR REPLACE INTO turns VALUES (?, ?, ?)", (key, encoded, time.time()))
            self._size += len(encoded) - sum(size for (size,) in replaced)
            self._make_room(db)

    def _make_room(self, db: apsw.Connection) -> None:
        while self._size > self._max_bytes:
            oldest = list(db.execute("SELECT key, length(turn) FROM turns ORDER BY used_at LIMIT 100"))
            for key, size in oldest:
                if self._size > self._max_bytes:
                    db.execute("DELETE FROM turns WHERE key = ?", (key,))
                    self._size -= size

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def close(self) -> None:
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
