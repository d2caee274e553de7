"""What the library keeps, in SQLite: the truth about uploaded files, vector stores and their members.

`synchronous=FULL`: what was acknowledged is there after the power went. A batch is a note of which files were put into
a store together. Not to be shared between threads.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import apsw
import msgspec

from index.errors import DataFolderError, StorageError
from index.params import Chunking
from index.storage.sqlite.database import query, transaction
from server.errors import FileBatchNotFound, FileQuotaExceeded, StoredFileNotFound, VectorStoreNotFound
from server.files.entries import Entry
from server.files.records import Attributes, Batch, Failure, Kept, Store, Wanted

_VERSION = 1
_SCHEMA = """
    CREATE TABLE files (
        at INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order they came in
        id TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,                  -- bytes
        created_at INTEGER NOT NULL,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        expires_at INTEGER,
        owner TEXT NOT NULL
    ) STRICT;
    CREATE INDEX files_expires_at ON files (expires_at);

    CREATE TABLE stores (
        at INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_active_at INTEGER NOT NULL,
        description TEXT,
        days INTEGER,
        metadata TEXT NOT NULL,                 -- JSON
        owner TEXT NOT NULL
    ) STRICT;

    CREATE TABLE members (
        at INTEGER PRIMARY KEY AUTOINCREMENT,
        store_id TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
        file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL,
        attributes TEXT NOT NULL,               -- JSON
        chunking TEXT,                          -- JSON: size and overlap; NULL: as suits the embedder
        is_cancelled INTEGER NOT NULL DEFAULT 0,
        failure TEXT,                           -- JSON: why it was not even tried
        UNIQUE (store_id, file_id)
    ) STRICT;
    CREATE INDEX members_file ON members (file_id);

    CREATE TABLE batches (
        id TEXT PRIMARY KEY,
        store_id TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL,
        cancelled_at INTEGER
    ) STRICT;
    CREATE INDEX batches_store ON batches (store_id);

    CREATE TABLE batch_files (
        batch_id TEXT NOT NULL REFERENCES batches ON DELETE CASCADE,
        file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        PRIMARY KEY (batch_id, file_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX batch_files_file ON batch_files (file_id);

    -- When a watched folder was first seen, by the name of its collection: it has no other date.
    CREATE TABLE folders (name TEXT PRIMARY KEY, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_FILE = "id, size, created_at, filename, purpose, expires_at, owner"
_STORE = "id, name, created_at, last_active_at, description, days, metadata, owner"
_BATCH = "id, store_id, created_at, cancelled_at"


class Ledger:
    """Owns the database. Raises `DataFolderError` when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = apsw.Connection(str(path))
            path.chmod(0o600)
            self._db.set_busy_timeout(5000)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
                self._db.execute(f"PRAGMA {pragma}")
            ((version,),) = query(self._db, "PRAGMA user_version")
            if version > _VERSION:
                raise DataFolderError(path, "it was written by a newer version of Cloister; use that")
            if version < _VERSION:
                with transaction(self._db):
                    self._db.execute(_SCHEMA)
                    self._db.execute(f"PRAGMA user_version = {_VERSION}")
        except (OSError, apsw.Error, StorageError) as error:
            raise DataFolderError(path, str(error)) from error

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_file(self, file: Kept, most_bytes: int) -> None:
        """Raises `FileQuotaExceeded` when all files together would be larger than `most_bytes`."""
        with transaction(self._db):
            if self.size() + file.size > most_bytes:
                raise FileQuotaExceeded(most_bytes)
            self._db.execute(f"INSERT INTO files ({_FILE}) VALUES (?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(file))

    def size(self) -> int:
        """Bytes of all files."""
        ((size,),) = query(self._db, "SELECT coalesce(sum(size), 0) FROM files")
        return int(size)

    def file(self, id: str) -> Kept:
        """Raises `StoredFileNotFound`."""
        for row in query(self._db, f"SELECT {_FILE} FROM files WHERE id = ?", (id,)):
            return Kept(*row)
        raise StoredFileNotFound(id)

    def files(self, purpose: str | None = None) -> list[Kept]:
        """In the order they came in."""
        rows = query(self._db, f"SELECT {_FILE} FROM files WHERE ?1 IS NULL OR purpose = ?1 ORDER BY at", (purpose,))
        return [Kept(*row) for row in rows]

    def remove_file(self, id: str) -> list[Entry]:
        """Where it was. Raises `StoredFileNotFound`."""
        self.file(id)
        with transaction(self._db):
            left = self._entries("file_id = ?", (id,))
            self._db.execute("DELETE FROM files WHERE id = ?", (id,))
        return left

    def add_store(self, store: Store, wanted: Sequence[tuple[Wanted, Failure | None]]) -> None:
        """With these files in it. Raises `StoredFileNotFound`."""
        told = {**msgspec.structs.asdict(store), "metadata": _json(store.metadata)}
        with transaction(self._db):
            self._db.execute(
                f"INSERT INTO stores ({_STORE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [told[name] for name in _STORE.split(", ")],
            )
            self._put(store.id, wanted)

    def change_store(self, store: Store) -> None:
        self._db.execute(
            "UPDATE stores SET name = ?, description = ?, days = ?, metadata = ?, last_active_at = ? WHERE id = ?",
            (store.name, store.description, store.days, _json(store.metadata), store.last_active_at, store.id),
        )

    def note_use(self, store_ids: Iterable[str]) -> None:
        """To the minute: nothing is written for a search that follows another."""
        now = int(time.time())
        with transaction(self._db):
            self._db.executemany(
                "UPDATE stores SET last_active_at = ?1 WHERE id = ?2 AND last_active_at < ?1 - 60",
                [(now, id) for id in store_ids],
            )

    def store(self, id: str) -> Store:
        """Raises `VectorStoreNotFound`."""
        for row in query(self._db, f"SELECT {_STORE} FROM stores WHERE id = ?", (id,)):
            return _store(row)
        raise VectorStoreNotFound(id)

    def stores(self) -> list[Store]:
        """In the order they were made."""
        return [_store(row) for row in query(self._db, f"SELECT {_STORE} FROM stores ORDER BY at")]

    def remove_store(self, id: str) -> list[Entry]:
        """What was in it. Raises `VectorStoreNotFound`."""
        self.store(id)
        with transaction(self._db):
            left = self.entries(id)
            self._db.execute("DELETE FROM stores WHERE id = ?", (id,))
        return left

    def put(self, store_id: str, wanted: Sequence[tuple[Wanted, Failure | None]], batch: Batch | None = None) -> None:
        """Files into a store; of those that are there already, attributes and chunking are these from now on. Raises
        `StoredFileNotFound`."""
        with transaction(self._db):
            self._put(store_id, wanted)
            if batch is not None:
                self._db.execute(f"INSERT INTO batches ({_BATCH}) VALUES (?, ?, ?, ?)", msgspec.structs.astuple(batch))
                self._db.executemany(
                    "INSERT OR IGNORE INTO batch_files VALUES (?, ?)", [(batch.id, each.file_id) for each, _ in wanted]
                )

    def _put(self, store_id: str, wanted: Sequence[tuple[Wanted, Failure | None]]) -> None:
        now = int(time.time())
        for each, failure in wanted:
            self.file(each.file_id)
            self._db.execute(
                "INSERT INTO members (store_id, file_id, created_at, attributes, chunking, failure)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET attributes = excluded.attributes,"
                " chunking = excluded.chunking, failure = excluded.failure, is_cancelled = 0",
                (
                    *(store_id, each.file_id, now, _json(each.attributes)),
                    None if each.chunking is None else _json(each.chunking),
                    None if failure is None else _json(failure),
                ),
            )

    def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        self._db.execute(
            "UPDATE members SET attributes = ? WHERE store_id = ? AND file_id = ?",
            (_json(attributes), store_id, file_id),
        )

    def take_out(self, store_id: str, file_id: str) -> list[Entry]:
        """What was taken out: one entry, or none."""
        with transaction(self._db):
            left = self._entries("store_id = ? AND file_id = ?", (store_id, file_id))
            self._db.execute("DELETE FROM members WHERE store_id = ? AND file_id = ?", (store_id, file_id))
        return left

    def entries(self, store_id: str) -> list[Entry]:
        """In the order they were put in."""
        return self._entries("store_id = ?", (store_id,))

    def entries_of_batch(self, batch: Batch) -> list[Entry]:
        wanted = "store_id = ? AND file_id IN (SELECT file_id FROM batch_files WHERE batch_id = ?)"
        return self._entries(wanted, (batch.store_id, batch.id))

    def entries_of_file(self, file_id: str) -> list[Entry]:
        return self._entries("file_id = ?", (file_id,))

    def all_entries(self) -> list[Entry]:
        return self._entries("TRUE", ())

    def _entries(self, wanted: str, bindings: tuple[Any, ...]) -> list[Entry]:
        rows = query(
            self._db,
            "SELECT store_id, members.created_at, attributes, chunking, is_cancelled, failure,"
            " files.id, size, files.created_at, filename, purpose, expires_at, owner"
            f" FROM members JOIN files ON files.id = file_id WHERE {wanted} ORDER BY members.at",
            bindings,
        )
        return [
            Entry(
                store_id,
                Kept(*file),
                created_at,
                msgspec.json.decode(attributes),
                None if chunking is None else msgspec.json.decode(chunking, type=Chunking),
                bool(is_cancelled),
                None if failure is None else msgspec.json.decode(failure, type=Failure),
            )
            for store_id, created_at, attributes, chunking, is_cancelled, failure, *file in rows
        ]

    def batch(self, store_id: str, id: str) -> Batch:
        """Raises `FileBatchNotFound`."""
        for row in query(self._db, f"SELECT {_BATCH} FROM batches WHERE store_id = ? AND id = ?", (store_id, id)):
            return Batch(*row)
        raise FileBatchNotFound(id)

    def cancel(self, batch: Batch, file_ids: Iterable[str]) -> None:
        """The batch, and of its files these."""
        with transaction(self._db):
            self._db.execute("UPDATE batches SET cancelled_at = ? WHERE id = ?", (int(time.time()), batch.id))
            self._db.executemany(
                "UPDATE members SET is_cancelled = 1 WHERE store_id = ? AND file_id = ?",
                [(batch.store_id, id) for id in file_ids],
            )

    def expired_files(self) -> list[str]:
        return [id for (id,) in query(self._db, "SELECT id FROM files WHERE expires_at <= ?", (int(time.time()),))]

    def empty_expired(self) -> list[Entry]:
        """Takes out what is in stores that have expired."""
        now, left = int(time.time()), []
        with transaction(self._db):
            for store in self.stores():
                if store.expires_at is not None and store.expires_at <= now:
                    left += self.entries(store.id)
                    self._db.execute("DELETE FROM members WHERE store_id = ?", (store.id,))
        return left

    def folder_seen_at(self, name: str) -> int:
        """When a watched folder was first asked for."""
        self._db.execute("INSERT OR IGNORE INTO folders VALUES (?, ?)", (name, int(time.time())))
        ((seen,),) = query(self._db, "SELECT created_at FROM folders WHERE name = ?", (name,))
        return int(seen)


def _store(row: tuple[Any, ...]) -> Store:
    id, name, created_at, last_active_at, description, days, metadata, owner = row
    return Store(id, name, created_at, last_active_at, description, days, msgspec.json.decode(metadata), owner)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
