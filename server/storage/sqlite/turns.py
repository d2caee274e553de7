"""Turns of conversations in SQLite, within a number of bytes; the conversations used least recently go first."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import apsw
import msgspec

from index.errors import IndexingError
from index.storage.sqlite.database import query, transaction
from server.storage.sqlite.database import Database

TURNS_FILE = "turns.sqlite3"
_MIGRATIONS = (
    """
    CREATE TABLE turns (
        key BLOB PRIMARY KEY,
        turn BLOB NOT NULL,
        used_at REAL NOT NULL    -- Unix seconds
    ) WITHOUT ROWID;
    CREATE INDEX turns_used_at ON turns (used_at);
    """,
)
_HAS_KEY = "key IN (SELECT unhex(value) FROM json_each(?))"


class SqliteTurnStore:
    """A `TurnStore`. A damaged file is replaced by an empty one, since its content is a cache."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._database = Database(path, _MIGRATIONS, synchronous="NORMAL", replace_if_damaged=True)
        self._max_bytes = max_bytes
        self._num_bytes: int | None = None  # bytes of all turns; touched on the database's thread alone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def recall(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        try:
            return await self._database.run(_recall, keys)
        except (IndexingError, OSError):
            return {}

    def remember(self, key: bytes, turn: bytes) -> None:
        self._database.submit(self._remember, key, turn)

    def _remember(self, db: apsw.Connection, key: bytes, turn: bytes) -> None:
        """Run on the database's thread."""
        num_bytes, self._num_bytes = self._num_bytes, None  # unknown after an error
        with transaction(db):
            if num_bytes is None:
                ((num_bytes,),) = query(db, "SELECT coalesce(sum(length(turn)), 0) FROM turns")
            replaced = query(db, "SELECT length(turn) FROM turns WHERE key = ?", (key,))
            db.execute("INSERT OR REPLACE INTO turns VALUES (?, ?, ?)", (key, turn, time.time()))
            num_bytes += len(turn) - sum(size for (size,) in replaced)
            num_bytes -= _delete_oldest(db, num_bytes - self._max_bytes)
        self._num_bytes = num_bytes


def _recall(db: apsw.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    json_keys = msgspec.json.encode([key.hex() for key in keys]).decode()
    with transaction(db):
        rows = query(db, f"SELECT key, turn FROM turns WHERE {_HAS_KEY}", (json_keys,))
        db.execute(f"UPDATE turns SET used_at = ? WHERE {_HAS_KEY}", (time.time(), json_keys))
    return dict(rows)


def _delete_oldest(db: apsw.Connection, num_bytes: int) -> int:
    """Delete turns until `num_bytes` or more are gone; return how many bytes that were."""
    num_deleted = 0
    while num_deleted < num_bytes:
        oldest = query(db, "SELECT key, length(turn) FROM turns ORDER BY used_at LIMIT 100")
        if not oldest:
            break
        for key, size in oldest:
            if num_deleted < num_bytes:
                db.execute("DELETE FROM turns WHERE key = ?", (key,))
                num_deleted += size
    return num_deleted
