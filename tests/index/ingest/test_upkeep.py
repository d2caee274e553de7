"""Snapshots of the vectors, and the effect of another chunk size."""

import shutil

import pytest

from index.params import IndexingParams
from index.storage.sqlite.database import FILE
from tests.index.conftest import Workspace


def _fill(workspace: Workspace, count: int = 120) -> None:
    for number in range(count):
        workspace.write(f"{number}.md", f"text {number}")
    workspace.sync()


def test_moved_files_embed_nothing_when_a_snapshot_is_written_in_between(workspace: Workspace) -> None:
    _fill(workspace, 20)
    shutil.move(workspace.root, workspace.root.with_name("moved"))
    workspace.root.mkdir()
    (workspace.root.with_name("moved")).rename(workspace.root / "below")
    workspace.indexer.scan()
    assert workspace.status().documents == 0
    workspace.indexer.write_generation()
    assert workspace.sync() == 0
    assert workspace.status().documents == 20


def test_snapshots_of_a_deleted_database_are_not_trusted(workspace: Workspace) -> None:
    for number in range(30):
        workspace.write(f"{number}.md", f"item{number}")
    workspace.sync()
    workspace.indexer.write_generation()
    workspace.close()
    for file in [*workspace.data.glob(f"{FILE}*"), *workspace.root.iterdir()]:
        file.unlink()
    for number in range(40):
        workspace.write(f"{number}.md", f"other{number}")
    workspace.sync()
    with workspace.retrieving() as search:
        for number in range(40):
            best = search(f"other{number}")[0]
            assert (best.path, best.similarity) == (f"{number}.md", pytest.approx(1, abs=1e-3))


def test_another_chunk_size_cuts_every_document_again(workspace: Workspace) -> None:
    workspace.write("a.txt", " ".join(f"word{number}" for number in range(100)))
    workspace.sync()
    assert len(workspace.chunk_ids()) == 1
    workspace.params = IndexingParams(chunk_tokens=20)
    workspace.start()
    workspace.sync()
    assert len(workspace.chunk_ids()) == 5


def test_deleted_text_leaves_no_vector_behind(workspace: Workspace) -> None:
    file = workspace.write("a.txt", "one")
    workspace.sync()
    file.unlink()
    workspace.sync()
    workspace.indexer.write_generation()
    assert workspace.rows("SELECT count(*) FROM vectors") == [(0,)]


def test_many_passages_can_be_asked_for(workspace: Workspace) -> None:
    for number in range(250):
        workspace.write(f"{number}.md", f"kestrel {number}")
    workspace.sync()
    with workspace.retrieving() as search:
        assert len(search("kestrel", 250)) == 250
