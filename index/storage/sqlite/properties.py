"""The table `properties`: single values that belong to the database as a whole."""

import apsw
import msgspec

from index.storage.records import VectorSpace
from index.storage.sqlite.database import execute, query

_SPACE = "space"


def read_property(db: apsw.Connection, name: str) -> str | None:
    rows = query(db, "SELECT value FROM properties WHERE name = ?", (name,))
    return str(rows[0][0]) if rows else None


def write_property(db: apsw.Connection, name: str, value: str) -> None:
    execute(db, "INSERT OR REPLACE INTO properties VALUES (?, ?)", (name, value))


def delete_property(db: apsw.Connection, name: str) -> None:
    execute(db, "DELETE FROM properties WHERE name = ?", (name,))


def database_id(db: apsw.Connection) -> str:
    """Return the random id that was made with the database. Caches are marked with it."""
    id = read_property(db, "id")
    assert id is not None, "made with the tables"
    return id


def read_vector_space(db: apsw.Connection) -> VectorSpace | None:
    """Return the space that is searched; None in a database that no indexer has opened since there are spaces."""
    encoded = read_property(db, _SPACE)
    return None if encoded is None else msgspec.json.decode(encoded, type=VectorSpace)


def write_vector_space(db: apsw.Connection, space: VectorSpace) -> None:
    write_property(db, _SPACE, msgspec.json.encode(space).decode())
