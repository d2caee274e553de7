"""Errors of SQLite and of a failing disk, as the errors of a store."""

import errno
from pathlib import Path

import apsw
import pytest

from index.errors import StorageDamaged, StorageError, StorageFull, StorageUnavailable
from index.storage.sqlite.database import execute, open_reader, open_writer, query, storage_errors, transaction


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (apsw.FullError("database or disk is full"), StorageFull),
        (apsw.IOError("disk I/O error"), StorageUnavailable),
        (apsw.CantOpenError("unable to open database file"), StorageUnavailable),
        (apsw.ReadOnlyError("attempt to write a readonly database"), StorageUnavailable),
        (apsw.BusyError("database is locked"), StorageUnavailable),
        (apsw.CorruptError("database disk image is malformed"), StorageDamaged),
        (apsw.NotADBError("file is not a database"), StorageDamaged),
        (apsw.SQLError("no such table"), StorageError),
        (OSError(errno.ENOSPC, "No space left on device"), StorageFull),
        (OSError(errno.EDQUOT, "Quota exceeded"), StorageFull),
        (OSError(errno.EROFS, "Read-only file system"), StorageUnavailable),
    ],
)
def test_an_error_of_the_database_or_the_disk_is_raised_as_a_storage_error(
    error: Exception, expected: type[StorageError]
) -> None:
    with pytest.raises(StorageError) as caught, storage_errors():
        raise error
    assert type(caught.value) is expected
    assert str(error) == caught.value.reason


def test_other_errors_pass_unchanged() -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file")
    with pytest.raises(FileNotFoundError) as caught, storage_errors():
        raise missing
    assert caught.value is missing


def test_statements_and_transactions_raise_storage_errors(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    reader = open_reader(tmp_path)
    with pytest.raises(StorageError):
        query(reader, "SELECT * FROM nothing")
    with pytest.raises(StorageUnavailable):
        execute(reader, "DELETE FROM documents")
    with pytest.raises(StorageError), transaction(writer):
        writer.execute("INSERT INTO collections (name, root, is_active) VALUES ('a', '/a', 1)")
        writer.execute("INSERT INTO nothing VALUES (1)")
    assert query(reader, "SELECT * FROM collections") == []
    for connection in (reader, writer):
        connection.close()
