"""One SQLite file and the one thread that touches it, for each of the server's record stores."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self, TypeVar, TypeVarTuple

import apsw

from index.errors import DataFolderError, StorageDamaged, StorageError
from index.storage.sqlite.database import storage_errors, transaction

_BUSY_MS = 5000

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Database:
    """Owns a file that only its user may read, its connection, and the thread that uses the connection.

    `migrations[n]` brings the schema from version n to n + 1. With `synchronous` FULL, what is committed survives a
    power failure; with NORMAL, the file stays sound but may lose the last commits. `replace_if_damaged`: a file that
    is no sound database of this version is replaced by an empty one, for stores that are caches. A context manager;
    entering it raises `DataFolderError` when the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        replace_if_damaged: bool = False,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._synchronous = synchronous
        self._replace_if_damaged = replace_if_damaged
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        self._connection: apsw.Connection | None = None

    def __enter__(self) -> Self:
        try:
            self.submit(lambda _: None).result()
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file after the work submitted so far. Work submitted later raises `RuntimeError`."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    async def run(self, function: Callable[[apsw.Connection, *Arguments], T], *arguments: *Arguments) -> T:
        """Return what `function` returns, called with the connection on the database's thread.

        Raises `StorageError` for what goes wrong with the file, and whatever `function` raises.
        """
        return await asyncio.wrap_future(self.submit(function, *arguments))

    def submit(self, function: Callable[[apsw.Connection, *Arguments], T], *arguments: *Arguments) -> "Future[T]":
        """Queue what `run` does, without waiting for it."""
        return self._thread.submit(lambda: self._call(function, *arguments))

    def _call(self, function: Callable[[apsw.Connection, *Arguments], T], *arguments: *Arguments) -> T:
        try:
            with storage_errors():
                return function(self._open(), *arguments)
        except StorageDamaged:
            if not self._replace_if_damaged:
                raise
        self._delete()
        with storage_errors():
            return function(self._open(), *arguments)

    def _open(self) -> apsw.Connection:
        """Return the connection, opening the file at first. Raises `DataFolderError`."""
        if self._connection is None:
            try:
                with storage_errors():
                    connection = apsw.Connection(str(self._path))
                    try:
                        self._prepare(connection)
                    except BaseException:
                        connection.close()
                        raise
            except (OSError, StorageError) as error:
                if self._replace_if_damaged and isinstance(error, StorageDamaged):
                    raise
                raise DataFolderError(self._path, str(error)) from error
            self._connection = connection
        return self._connection

    def _prepare(self, connection: apsw.Connection) -> None:
        self._path.chmod(0o600)
        connection.set_busy_timeout(_BUSY_MS)
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {self._synchronous}",
            "secure_delete = ON",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        version = int(connection.pragma("user_version"))
        if version > len(self._migrations):
            if self._replace_if_damaged:
                raise StorageDamaged(f"version {version} of the file is not known")
            raise DataFolderError(self._path, "it was written by a newer version of Cloister; use that")
        for number, migration in enumerate(self._migrations[version:], start=version + 1):
            with transaction(connection):
                connection.execute(migration)
                connection.pragma("user_version", number)

    def _delete(self) -> None:
        self._disconnect()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
