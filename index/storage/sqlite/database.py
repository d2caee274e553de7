"""Opens the index's SQLite file, runs statements on it, and raises its errors as `StorageError`.

The file is the truth about everything indexed. The indexer's process writes it, others only read. WAL mode lets readers
neither wait for the writer nor see half of a document; with `synchronous=FULL` a commit outlasts a power failure.
"""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from index.errors import DataFolderError, StorageDamaged, StorageError, StorageFull, StorageUnavailable
from index.storage.sqlite.migrations import MIGRATIONS

FILE = "index.sqlite3"
IS_WATCHED = "is_active AND name NOT LIKE '.%'"  # SQL: collections that are searched without being named
_BUSY_TIMEOUT_MS = 5000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILING = frozenset({errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
_MIN_SQLITE = (3, 51, 3)  # 3.7.0 to 3.51.2 can corrupt a WAL when two processes reset it (sqlite.org/wal.html)


def open_writer(folder: Path) -> apsw.Connection:
    """Open, make or migrate the database in `folder`; the caller closes it. Raises `DataFolderError`."""
    with _data_folder_errors(folder), contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        connection = _connect(folder / FILE, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        stack.callback(connection.close)
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise DataFolderError(folder, "SQLite cannot use WAL there (a network file system?); choose a local --data")
        connection.pragma("synchronous", "FULL")
        _migrate(connection, folder)
        connection.execute("INSERT OR IGNORE INTO properties VALUES ('id', lower(hex(randomblob(16))))")
        stack.pop_all()
    return connection


def open_reader(folder: Path) -> apsw.Connection:
    """Open an existing database for reading; the caller closes it.

    Raises `DataFolderError`, also while the indexer has not made the tables of this version yet.
    """
    connection = open_any_version(folder)
    if not _has_current_tables(connection):
        connection.close()
        raise DataFolderError(folder, "the indexer has not made its tables yet")
    return connection


def open_any_version(folder: Path) -> apsw.Connection:
    """Open an existing database for reading, whatever tables it has; the caller closes it. Raises `DataFolderError`."""
    with _data_folder_errors(folder), contextlib.ExitStack() as stack:
        connection = _connect(folder / FILE, apsw.SQLITE_OPEN_READONLY)
        stack.callback(connection.close)
        connection.pragma("user_version")  # reads the file, and raises unless it is a database
        stack.pop_all()
    return connection


def check_integrity(folder: Path) -> str:
    """Return what SQLite's quick check finds, "ok" for a sound database. Raises `DataFolderError`."""
    try:
        with contextlib.closing(open_any_version(folder)) as connection:
            ((finding, *_), *_) = query(connection, "PRAGMA quick_check(1)")
            return str(finding)
    except StorageError as error:
        raise DataFolderError(folder, f"the database is damaged: {error}") from error


def exists(folder: Path) -> bool:
    return (folder / FILE).exists()


def has_current_tables(folder: Path) -> bool:
    """Return whether the indexer has made the tables of this version. Raises `DataFolderError`."""
    if not exists(folder):
        return False
    with contextlib.closing(open_any_version(folder)) as connection:
        return _has_current_tables(connection)


def _has_current_tables(connection: apsw.Connection) -> bool:
    return bool(connection.pragma("user_version") >= len(MIGRATIONS))


def _connect(path: Path, flags: int) -> apsw.Connection:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < _MIN_SQLITE:
        raise DataFolderError(path, f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL; 3.51.3 or newer is needed")
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    connection.pragma("foreign_keys", True)
    return connection


def _migrate(connection: apsw.Connection, folder: Path) -> None:
    version = connection.pragma("user_version")
    if version > len(MIGRATIONS):
        raise DataFolderError(folder, "it was written by a newer version of Cloister; use that, or another --data")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        with transaction(connection):
            connection.execute(script)
            connection.pragma("user_version", number)


@contextlib.contextmanager
def _data_folder_errors(folder: Path) -> Iterator[None]:
    try:
        with storage_errors():
            yield
    except (OSError, StorageError) as error:
        raise DataFolderError(folder, str(error)) from error


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Raise what SQLite and a failing disk raise as the `StorageError` that fits."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.BusyError) as error:
        kind = StorageFull if isinstance(error, apsw.FullError) else StorageUnavailable
        raise kind(str(error)) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StorageDamaged(str(error)) from error
    except apsw.Error as error:
        raise StorageError(str(error)) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(str(error)) from error
        if error.errno in _FAILING:
            raise StorageUnavailable(str(error)) from error
        raise


def query(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a statement; their types are the schema's. Raises `StorageError`."""
    with storage_errors():
        return connection.execute(sql, bindings).fetchall()


def execute(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> None:
    """Run a statement that returns no rows. Raises `StorageError`."""
    with storage_errors():
        connection.execute(sql, bindings)


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Commit all of the body or nothing of it. Raises `StorageError`.

    The write lock is taken at the beginning, so that no statement half-way through fails for want of it.
    """
    with storage_errors():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:  # also what ends the process: nothing half-done is kept
            if connection.in_transaction:  # SQLite may have rolled back already, when the disk is full
                connection.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Read one state of the database throughout the body. Raises `StorageError`."""
    with storage_errors(), connection:
        yield
