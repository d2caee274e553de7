"""Migrations of data folders of every earlier version (R29)."""

import contextlib
from pathlib import Path

import apsw
import pytest

from index.storage.sqlite.database import FILE, open_writer, query
from index.storage.sqlite.migrations import MIGRATIONS

_SCHEMA = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"


def make_folder_of_version(version: int, folder: Path) -> None:
    """Make a data folder with the first `version` migrations and a document in it."""
    folder.mkdir()
    with contextlib.closing(apsw.Connection(str(folder / FILE))) as connection:
        for step in MIGRATIONS[:version]:
            connection.execute(step)
        connection.pragma("user_version", version)
        connection.execute("INSERT INTO collections (id, name, root, is_active) VALUES (7, 'notes', '/notes', 1)")
        connection.execute(
            "INSERT INTO documents (id, collection_id, path, size, mtime_ns, sha256, title, state, indexed_at)"
            " VALUES (3, 7, 'a.md', 5, 6, 'f00', 'A', 'indexed', 1.5)"
        )
        connection.execute(
            "INSERT INTO chunks (id, document_id, ordinal, text, heading, char_from, char_to, line_from, line_to,"
            " content_hash) VALUES (9, 3, 0, 'the text', '[]', 0, 8, 1, 1, x'00')"
        )


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_data_folder_of_an_earlier_version_is_migrated(tmp_path: Path, version: int) -> None:
    make_folder_of_version(version, tmp_path / "old")
    with (
        contextlib.closing(open_writer(tmp_path / "new")) as new,
        contextlib.closing(open_writer(tmp_path / "old")) as old,
    ):
        assert old.pragma("user_version") == len(MIGRATIONS)
        assert query(old, _SCHEMA) == query(new, _SCHEMA)
        assert query(old, "SELECT path, size, sha256, state FROM documents") == [("a.md", 5, "f00", "indexed")]
        assert query(old, "SELECT id, text FROM chunks") == [(9, "the text")]
        assert query(old, "PRAGMA foreign_key_check") == []
        assert query(old, "PRAGMA integrity_check") == [("ok",)]
