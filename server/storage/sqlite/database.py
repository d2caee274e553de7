"""The server's own databases: small, private, written with care."""

from pathlib import Path

import apsw

from index.errors import DataFolderError, StorageError
from index.storage.sqlite.database import query, transaction


def open_private(path: Path, schema: str, version: int) -> apsw.Connection:
    """Opens or makes a database that only its owner may read; what is committed is there after the power went. Raises
    `DataFolderError`."""
    try:
        db = apsw.Connection(str(path))
        try:
            _prepare(db, path, schema, version)
        except BaseException:
            db.close()
            raise
    except (OSError, apsw.Error, StorageError) as error:
        raise DataFolderError(path, str(error)) from error
    return db


def _prepare(db: apsw.Connection, path: Path, schema: str, version: int) -> None:
    path.chmod(0o600)
    db.set_busy_timeout(5000)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
        db.execute(f"PRAGMA {pragma}")
    ((found,),) = query(db, "PRAGMA user_version")
    if found > version:
        raise DataFolderError(path, "it was written by a newer version of Cloister; use that")
    if found < version:
        with transaction(db):
            db.execute(schema)
            db.execute(f"PRAGMA user_version = {version}")
