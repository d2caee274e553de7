"""Documents whose files are gone: which are deleted, and which are held because a disk may be unmounted."""

import time

import pytest

from index.ingest.commands import Rescan
from index.params import IndexingParams
from tests.index.conftest import Workspace


def _fill(workspace: Workspace, count: int = 120) -> None:
    for number in range(count):
        workspace.write(f"{number}.md", f"text {number}")
    workspace.sync()


def _delete(workspace: Workspace, numbers: range) -> None:
    for number in numbers:
        (workspace.root / f"{number}.md").unlink()


def test_deleting_most_of_a_collection_at_once_is_held(workspace: Workspace) -> None:
    _fill(workspace)
    _delete(workspace, range(100))
    workspace.write("new.md", "new")
    workspace.sync()
    assert (workspace.status().documents, workspace.status().missing) == (121, 100)
    assert workspace.status().missing_since == pytest.approx(time.time(), abs=60)
    workspace.start()
    workspace.sync()
    assert workspace.status().missing == 100


def test_held_documents_are_deleted_once_they_were_missing_long_enough(workspace: Workspace) -> None:
    _fill(workspace)
    _delete(workspace, range(100))
    workspace.sync()
    workspace.params = IndexingParams(hold_deletions_s=0)
    workspace.start()
    workspace.sync()
    assert (workspace.status().documents, workspace.status().missing, workspace.status().missing_since) == (20, 0, None)


def test_held_documents_are_deleted_when_a_person_accepts(workspace: Workspace) -> None:
    _fill(workspace)
    _delete(workspace, range(100))
    workspace.sync()
    workspace.indexer.handle(Rescan(("notes",), accept_deletions=False))
    workspace.indexer.handle(Rescan(("other",), accept_deletions=True))
    workspace.sync()
    assert workspace.status().documents == 120
    workspace.indexer.handle(Rescan(("notes",), accept_deletions=True))
    workspace.sync()
    assert (workspace.status().documents, workspace.status().missing) == (20, 0)


def test_documents_whose_files_come_back_are_not_held_any_more(workspace: Workspace) -> None:
    _fill(workspace)
    workspace.root.rename(workspace.root.with_name("away"))
    workspace.root.mkdir()
    workspace.sync()
    assert workspace.status().missing == 120
    workspace.root.rmdir()
    workspace.root.with_name("away").rename(workspace.root)
    assert workspace.sync() == 0
    assert (workspace.status().documents, workspace.status().missing) == (120, 0)


@pytest.mark.parametrize(("deleted", "left"), [(40, 80), (60, 60)])
def test_half_of_a_collection_may_be_deleted_at_once(workspace: Workspace, deleted: int, left: int) -> None:
    _fill(workspace)
    _delete(workspace, range(deleted))
    workspace.sync()
    assert (workspace.status().documents, workspace.status().missing) == (left, 0)


def test_documents_whose_files_were_only_moved_are_not_held(workspace: Workspace) -> None:
    _fill(workspace)
    (workspace.root / "below").mkdir()
    for number in range(120):
        (workspace.root / f"{number}.md").rename(workspace.root / "below" / f"{number}.md")
    assert workspace.sync() == 0
    assert workspace.status().missing == 0
    assert workspace.texts() == {f"below/{number}.md": f"text {number}" for number in range(120)}


def test_documents_whose_files_are_now_ignored_are_not_held(workspace: Workspace) -> None:
    _fill(workspace)
    workspace.write(".cloisterignore", "1*.md")
    workspace.write("a.md", "kept")
    workspace.sync()
    assert not any(path.startswith("1") for path in workspace.texts())
    workspace.write(".cloisterignore", "*\n!a.md")
    workspace.sync()
    assert workspace.texts() == {"a.md": "kept"}


def test_an_empty_folder_in_place_of_the_root_deletes_nothing(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.root.rename(workspace.root.with_name("away"))
    workspace.root.mkdir()
    workspace.sync()
    assert (workspace.texts(), workspace.status().missing) == ({"a.md": "one"}, 1)
    workspace.write("b.md", "two")
    workspace.sync()
    assert (workspace.texts(), workspace.status().missing) == ({"b.md": "two"}, 0)
