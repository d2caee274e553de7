import json
from collections.abc import Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest

from index.embedded_text import content_hash
from index.errors import DataFolderError
from index.ingest.store import open_document_store
from index.storage.records import FileStat, StoredChunk
from index.storage.sqlite import database
from index.storage.sqlite.catalog import SqliteCatalog
from index.storage.sqlite.database import FILE, open_reader, open_writer, query
from index.storage.sqlite.document_store import SqliteDocumentStore
from index.storage.sqlite.migrations import MIGRATIONS
from index.storage.sqlite.vectors import VectorReader
from index.types import Chunk, Collection, Vectors

_STAT = FileStat(size=3, mtime_ns=7)
_SPACE = "space"


def _chunk(text: str, *heading: str) -> Chunk:
    return Chunk(text, heading, 0, len(text), 1, 1)


def _unit(*values: float) -> Vectors:
    vector = np.array([values], np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SqliteDocumentStore]:
    writer = open_document_store(tmp_path)
    yield writer
    writer.close()


@pytest.fixture
def notes(writer: SqliteDocumentStore) -> int:
    return writer.configure([Collection("notes", Path("/notes"))])["notes"]


def _rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    reader = open_reader(folder)
    try:
        return query(reader, sql)
    finally:
        reader.close()


def _store_document(writer: SqliteDocumentStore, collection_id: int, path: str, *chunks: Chunk) -> None:
    writer.replace(collection_id, path, _STAT, "0" * 64, None, chunks)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    connection = open_writer(tmp_path)
    version = connection.pragma("user_version")
    connection.pragma("user_version", version + 1)
    connection.close()
    with pytest.raises(DataFolderError, match="newer version") as refusal:
        open_writer(tmp_path)
    assert refusal.value.path == tmp_path
    assert _rows(tmp_path, "PRAGMA user_version") == [(version + 1,)]


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / database.FILE
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataFolderError, match="not a database"):
        open_writer(tmp_path)
    assert file.read_bytes() == b"not a database at all" * 100


def test_a_data_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataFolderError):
        open_writer(tmp_path / "file" / "data")


def test_a_reader_needs_a_database_and_writes_nothing(tmp_path: Path) -> None:
    assert not database.exists(tmp_path)
    with pytest.raises(DataFolderError):
        open_reader(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_database_is_kept_when_it_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        writer = open_document_store(tmp_path)
        known = writer.known_documents(writer.configure([Collection("notes", Path("/notes"))])["notes"])
        _store_document(writer, 1, "a.md", _chunk("one"))
        writer.close()
    assert known["a.md"].state == "indexed"


def test_a_failing_commit_leaves_the_old_version(tmp_path: Path, writer: SqliteDocumentStore, notes: int) -> None:
    _store_document(writer, notes, "a.md", _chunk("old"))
    contents = (
        "SELECT text FROM chunks",
        "SELECT rowid FROM words",
        "SELECT * FROM changes",
        "SELECT * FROM documents",
    )
    before = [_rows(tmp_path, sql) for sql in contents]
    with pytest.raises(TypeError):
        _store_document(writer, notes, "a.md", _chunk("new"), _chunk("broken")._replace(line_to={}))  # type: ignore[arg-type]
    assert [_rows(tmp_path, sql) for sql in contents] == before
    _store_document(writer, notes, "a.md", _chunk("new"))
    assert _rows(tmp_path, "SELECT text FROM chunks") == [("new",)]


def test_a_reader_sees_the_old_version_or_the_new_one(tmp_path: Path, writer: SqliteDocumentStore, notes: int) -> None:
    _store_document(writer, notes, "a.md", _chunk("old 1"), _chunk("old 2"))
    reader = open_reader(tmp_path)
    with reader:
        assert query(reader, "SELECT count(*) FROM chunks") == [(2,)]
        _store_document(writer, notes, "a.md", _chunk("new"))
        assert query(reader, "SELECT text FROM chunks ORDER BY id") == [("old 1",), ("old 2",)]
    assert query(reader, "SELECT text FROM chunks") == [("new",)]
    reader.close()


def test_an_id_is_never_used_twice(tmp_path: Path, writer: SqliteDocumentStore, notes: int) -> None:
    ids: set[object] = set()
    for _ in range(3):
        _store_document(writer, notes, "a.md", _chunk("one"), _chunk("two"))
        rows = _rows(tmp_path, "SELECT id FROM chunks UNION ALL SELECT -id FROM documents")
        assert len(rows) == 3
        assert ids.isdisjoint(rows)
        ids.update(rows)
        writer.remove(notes, ["a.md"])
        assert not _rows(tmp_path, "SELECT 1 FROM chunks")


def test_the_change_log_has_additions_and_removals_of_chunks(
    tmp_path: Path, writer: SqliteDocumentStore, notes: int
) -> None:
    _store_document(writer, notes, "a.md", _chunk("one"), _chunk("two"))
    _store_document(writer, notes, "a.md", _chunk("three"))
    writer.fail(notes, "a.md", _STAT, "broken")
    assert _rows(tmp_path, "SELECT chunk_id, is_removal FROM changes ORDER BY seq") == [
        (1, 0), (2, 0), (1, 1), (2, 1), (3, 0), (3, 1)
    ]  # fmt: skip
    assert writer.last_change() == 6


def test_trimming_keeps_the_newest_change(tmp_path: Path, writer: SqliteDocumentStore, notes: int) -> None:
    _store_document(writer, notes, "a.md", *map(_chunk, "abcde"))
    writer.trim_changes(3)
    assert _rows(tmp_path, "SELECT seq FROM changes") == [(4,), (5,)]
    writer.trim_changes(99)
    assert writer.last_change() == 5
    assert _rows(tmp_path, "SELECT seq FROM changes") == [(5,)]


def test_known_documents_below_a_path_are_that_path_and_its_descendants(
    writer: SqliteDocumentStore, notes: int
) -> None:
    inside = {"a/b", "a/b/c.md", "a/b/d/e.md", "a/b/\U0010ffff.md"}
    for path in inside | {"a/b.md", "a/b-c/d.md", "a/b0", "a", "b/a/b/c.md", "a/B/c.md"}:
        _store_document(writer, notes, path)
    assert writer.known_documents(notes, "a/b").keys() == inside
    assert writer.known_documents(notes, "%").keys() == set()
    assert len(writer.known_documents(notes)) == 10


def test_documents_are_known_and_removed_in_one_collection_alone(writer: SqliteDocumentStore) -> None:
    ids = writer.configure([Collection("notes", Path("/notes")), Collection("other", Path("/other"))])
    for id in ids.values():
        _store_document(writer, id, "a.md")
    writer.remove(ids["notes"], ["a.md", "missing.md"])
    assert [writer.known_documents(id).keys() for id in ids.values()] == [set(), {"a.md"}]


def test_a_pending_document_keeps_its_chunks(tmp_path: Path, writer: SqliteDocumentStore, notes: int) -> None:
    _store_document(writer, notes, "a.md", _chunk("one"))
    writer.mark_pending(notes, [("a.md", FileStat(9, 9)), ("b.md", FileStat(1, 1))])
    known = writer.known_documents(notes)
    assert (known["a.md"].state, known["b.md"].state) == ("pending", "pending")
    assert known["a.md"].stat == _STAT
    assert _rows(tmp_path, "SELECT text FROM chunks") == [("one",)]


def test_equal_texts_under_equal_headings_share_a_vector(writer: SqliteDocumentStore) -> None:
    assert content_hash(_chunk("one", "A")) == content_hash(_chunk("one", "A")._replace(start=5, end=8, line_from=2))
    assert content_hash(_chunk("one", "A")) != content_hash(_chunk("one", "B"))
    assert content_hash(_chunk("one", "A")) != content_hash(_chunk("two", "A"))


def test_vectors_are_missing_until_they_are_stored_in_that_space(writer: SqliteDocumentStore) -> None:
    writer.store_vectors(_SPACE, [b"a", b"b"], np.concatenate([_unit(1, 0), _unit(0, 1)]))
    writer.store_vectors(_SPACE, [b"a"], _unit(0, 1))  # again: the first stays
    assert writer.missing_vectors([b"a", b"b", b"c"], _SPACE) == {b"c"}
    assert writer.missing_vectors([b"a"], "other") == {b"a"}


def test_vectors_come_back_as_unit_vectors_of_the_chunks_that_exist(
    tmp_path: Path, writer: SqliteDocumentStore, notes: int
) -> None:
    stored = _unit(1, 2, 3)
    one, two = _chunk("one"), _chunk("two")
    writer.store_vectors(_SPACE, [content_hash(one)], stored)
    writer.store_vectors("other", [content_hash(two)], stored)
    _store_document(writer, notes, "a.md", one, two, one)
    reader = open_reader(tmp_path)
    store = VectorReader(reader, _SPACE, 3)
    (block,) = store.blocks()
    assert block.ids.tolist() == [1, 3]
    assert block.collections.tolist() == [notes, notes]
    assert np.allclose(block.vectors, np.repeat(stored, 2, axis=0), atol=1e-3)
    assert np.allclose(np.linalg.norm(block.vectors, axis=1), 1, atol=1e-6)
    assert store.of_chunks([2, 3, 99]).ids.tolist() == [3]
    assert store.of_chunks([]).vectors.shape == (0, 3)
    reader.close()


def test_documents_without_vectors_in_a_space_are_pending_there(writer: SqliteDocumentStore, notes: int) -> None:
    writer.store_vectors(_SPACE, [content_hash(_chunk("one"))], _unit(1))
    _store_document(writer, notes, "has.md", _chunk("one"))
    _store_document(writer, notes, "half.md", _chunk("one"), _chunk("two"))
    _store_document(writer, notes, "empty.md")
    writer.invalidate_unembedded(_SPACE)
    assert {path: known.state for path, known in writer.known_documents(notes).items()} == {
        "has.md": "indexed",
        "half.md": "pending",
        "empty.md": "indexed",
    }
    assert writer.known_documents(notes)["half.md"].sha256 is None


def test_headings_are_stored_as_json(tmp_path: Path, writer: SqliteDocumentStore, notes: int) -> None:
    _store_document(writer, notes, "a.md", _chunk("one", 'A "quoted" part', "Über", "1 > 2"))
    ((heading,),) = _rows(tmp_path, "SELECT heading FROM chunks")
    assert json.loads(str(heading)) == ['A "quoted" part', "Über", "1 > 2"]


def test_a_database_of_the_first_schema_is_migrated(tmp_path: Path) -> None:
    old = apsw.Connection(str(tmp_path / FILE))
    old.execute(MIGRATIONS[0])
    old.execute("INSERT INTO collections VALUES (1, 'notes', '/notes', 1, NULL, NULL, NULL)")
    old.execute("INSERT INTO documents VALUES (1, 1, 'a.md', 1, 1, 'x', NULL, 'indexed', NULL, 0)")
    old.execute("INSERT INTO chunks VALUES (1, 1, 0, 'one', '[]', 0, 3, 1, 1, x'00')")
    old.pragma("user_version", 1)
    old.close()
    open_writer(tmp_path).close()
    document = SqliteCatalog(tmp_path).read_document(1)
    assert document is not None
    assert document.chunks == [StoredChunk(1, (), "one", 1, 1, None, "")]


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_a_database_that_is_not_fully_migrated_has_nothing_to_read(tmp_path: Path, version: int) -> None:
    half_made = apsw.Connection(str(tmp_path / FILE))
    half_made.pragma("journal_mode", "wal")
    for script in MIGRATIONS[:version]:
        half_made.execute(script)
    half_made.pragma("user_version", version)
    assert not database.has_current_tables(tmp_path)
    catalog = SqliteCatalog(tmp_path)
    assert (catalog.status(), catalog.topic(), catalog.read_document(1)) == ([], None, None)
    assert (catalog.find_document(1), catalog.vector_space()) == (None, None)
    with pytest.raises(DataFolderError, match="not made its tables"):
        open_reader(tmp_path)
    half_made.close()
    open_writer(tmp_path).close()
    assert database.has_current_tables(tmp_path)
    open_reader(tmp_path).close()


def test_an_empty_file_is_a_database_without_tables(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    assert SqliteCatalog(tmp_path).status() == []


def test_reading_a_file_that_is_no_database_raises(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all" * 100)
    catalog = SqliteCatalog(tmp_path)
    for read in (
        catalog.status,
        catalog.topic,
        lambda: database.check_integrity(tmp_path),
        lambda: open_reader(tmp_path),
    ):
        with pytest.raises(DataFolderError, match="not a database"):
            read()
