"""The database of the record stores: one file, one thread, its migrations, and the errors that pass."""

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from index.errors import DataFolderError, StorageDamaged, StorageError
from index.storage.sqlite.database import query
from server.storage.sqlite.database import Database

FIRST = "CREATE TABLE t (a INTEGER) STRICT; INSERT INTO t VALUES (1);"
SECOND = "ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 7;"


def rows(db: apsw.Connection) -> list[tuple[int, ...]]:
    return query(db, "SELECT * FROM t")


def test_functions_run_on_one_thread(tmp_path: Path) -> None:
    def thread(_: apsw.Connection, number: int) -> tuple[int, int]:
        return number, threading.get_ident()

    async def check() -> None:
        results = await asyncio.gather(*(database.run(thread, number) for number in range(10)))
        assert [number for number, _ in results] == list(range(10))
        assert len({ident for _, ident in results} | {threading.get_ident()}) == 2

    with Database(tmp_path / "d.sqlite3", [FIRST]) as database:
        asyncio.run(check())


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite3"
    for migrations, expected in (([FIRST], [(1,)]), ([FIRST, SECOND], [(1, 7)]), ([FIRST, SECOND], [(1, 7)])):
        with Database(path, migrations) as database:
            assert database.submit(rows).result() == expected
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataFolderError, match="newer version"), Database(path, [FIRST]):
        pass


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite3"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(DataFolderError), Database(path, [FIRST]):
        pass
    assert path.read_bytes() == b"no database" * 100
    with pytest.raises(DataFolderError), Database(tmp_path / "nowhere" / "d.sqlite3", [FIRST]):
        pass


def test_a_damaged_file_of_a_cache_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite3"
    path.write_bytes(b"no database" * 100)
    with Database(path, [FIRST], replace_if_damaged=True) as database:
        assert database.submit(rows).result() == [(1,)]
    with Database(path, [FIRST, SECOND]):
        pass
    with Database(path, [FIRST], replace_if_damaged=True) as database:
        assert database.submit(rows).result() == [(1,)], "a newer version is not known either"


@pytest.mark.parametrize(
    ("error", "expected"),
    [(apsw.SQLError("no such table"), StorageError), (apsw.CorruptError("damaged"), StorageDamaged)],
)
def test_errors_of_sqlite_are_translated(tmp_path: Path, error: Exception, expected: type[Exception]) -> None:
    def fail(_: apsw.Connection) -> None:
        raise error

    async def check() -> None:
        with pytest.raises(expected):
            await database.run(fail)
        assert await database.run(rows) == [(1,)]

    with Database(tmp_path / "d.sqlite3", [FIRST]) as database:
        asyncio.run(check())


def test_closing_waits_for_submitted_work(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite3"
    with Database(path, [FIRST]) as database:
        for number in range(100):
            database.submit(lambda db, n: db.execute("INSERT INTO t VALUES (?)", (n,)), number)
    with Database(path, [FIRST]) as database:
        assert len(database.submit(rows).result()) == 101
