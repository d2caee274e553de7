"""The indexer's own loop with the system's file events: soon after every change the index equals the disk.

Tests of single operations scan once, at the start, so that what they see was hinted at. The others scan often, because
scans make up for lost hints.
"""

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index.dense.compaction import vectors_folder
from index.ingest.files import list_files
from index.ingest.watcher import Watcher
from index.params import IndexingParams
from index.types import Collection, Vectors
from tests.index.conftest import Workspace, eventually, set_mtime


def _read_files(root: Path) -> dict[str, str]:
    return {path: (root / path).read_text().rstrip() for path, _ in list_files(root).files}


def _await_equal(workspace: Workspace) -> None:
    """Wait until the index equals the disk; fail with the difference."""
    try:
        eventually(lambda: workspace.texts() == _read_files(workspace.root) and not workspace.status().pending)
    except AssertionError:  # a late event may make an equal index pending again, so it is compared again only now
        assert workspace.texts() == _read_files(workspace.root)
        assert workspace.status().pending == 0
        raise


@contextlib.contextmanager
def _watching(workspace: Workspace, scan_interval_s: float = 3600) -> Iterator[None]:
    """Run the indexer's loop, with events known to arrive."""
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=scan_interval_s)
    with workspace.running():
        canary = workspace.root / "canary.txt"
        attempts = iter(range(1000))

        def is_noticed() -> bool:
            canary.write_text(f"attempt {next(attempts)}")
            return "canary.txt" in workspace.texts()

        eventually(is_noticed)
        canary.unlink()
        _await_equal(workspace)
        yield


def test_saved_edited_and_deleted_files_are_followed(workspace: Workspace) -> None:
    with _watching(workspace):
        file = workspace.write("a.md", "one")
        _await_equal(workspace)
        file.write_text("one, edited")
        _await_equal(workspace)
        file.unlink()
        _await_equal(workspace)


def test_an_atomic_replacement_is_followed(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    with _watching(workspace):
        for name in (".a.md.swp", "a.md.tmp", "a.md~"):
            temporary = workspace.write(name, f"one, saved by way of {name}")
            temporary.replace(workspace.root / "a.md")
            _await_equal(workspace)


def test_renamed_files_are_followed_and_embed_nothing(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.write("b/c.md", "two")
    with _watching(workspace):
        before = len(workspace.embedder.embedded)
        file = file.rename(workspace.root / "b" / "new.md")
        _await_equal(workspace)
        file = file.rename(workspace.root / "out of sight.tmp")
        _await_equal(workspace)
        file.rename(workspace.root / "back.md")
        _await_equal(workspace)
        assert len(workspace.embedder.embedded) == before


def test_files_in_new_folders_are_followed(workspace: Workspace) -> None:
    with _watching(workspace):
        file = workspace.write("b/c/d.md", "one")
        _await_equal(workspace)
        file.write_text("one, edited")
        workspace.write("b/e.md", "two")
        _await_equal(workspace)


def test_a_renamed_folder_is_followed_and_still_watched(workspace: Workspace) -> None:
    for path in ("old/a.md", "old/b/c.md", "older/d.md"):
        workspace.write(path, path)
    with _watching(workspace):
        before = len(workspace.embedder.embedded)
        (workspace.root / "old").rename(workspace.root / "new")
        _await_equal(workspace)
        assert len(workspace.embedder.embedded) == before
        workspace.write("new/b/c.md", "edited")
        workspace.write("new/f.md", "new")
        _await_equal(workspace)
        shutil.rmtree(workspace.root / "new")
        _await_equal(workspace)


def test_folders_moved_in_and_out_are_followed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("b/a.md", "one", tmp_path / "outside")
    with _watching(workspace):
        (tmp_path / "outside" / "b").rename(workspace.root / "in")
        _await_equal(workspace)
        assert workspace.texts() == {"in/a.md": "one"}
        (workspace.root / "in").rename(tmp_path / "outside" / "b")
        _await_equal(workspace)
        assert workspace.texts() == {}


def test_an_edit_that_keeps_size_and_time_is_followed(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    set_mtime(file, 1_000_000_001)
    with _watching(workspace):
        file.write_text("two")
        set_mtime(file, 1_000_000_001)
        _await_equal(workspace)


def test_links_out_of_the_root_are_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    secret = workspace.write("secret.md", "secret", tmp_path / "outside")
    (workspace.root / "before").symlink_to(secret.parent)
    with _watching(workspace):
        (workspace.root / "after").symlink_to(secret.parent)
        (workspace.root / "file.md").symlink_to(secret)
        secret.write_text("secret, edited")
        for path in ("a.md", "b.md"):  # the second is seen after all that came before the first was dealt with
            workspace.write(path, path)
            _await_equal(workspace)
        assert workspace.texts() == {"a.md": "a.md", "b.md": "b.md"}
        assert workspace.failures() == {}
        assert "secret" not in "".join(workspace.embedder.embedded)


def test_a_link_to_a_watched_folder_hides_no_event(workspace: Workspace) -> None:
    file = workspace.write("a/b.md", "one")
    with _watching(workspace):
        link = workspace.root / "c"
        link.symlink_to(file.parent)
        file.write_text("two")
        _await_equal(workspace)
        link.unlink()  # with it, the system's watch on the folder may go
        workspace.write("d.md", "seen after that")
        _await_equal(workspace)
        file.write_text("three")
        _await_equal(workspace)


def test_a_file_that_becomes_binary_fails_until_it_is_text_again(workspace: Workspace) -> None:
    with _watching(workspace):
        workspace.write("a.md", b"\0")
        eventually(workspace.failures)
        workspace.write("a.md", "mended")
        _await_equal(workspace)
        assert workspace.failures() == {}


def test_a_search_finds_a_file_that_was_just_saved(workspace: Workspace) -> None:
    with _watching(workspace), workspace.retrieving() as search:
        workspace.write("a.md", "a kestrel")
        eventually(lambda: [passage.path for passage in search("kestrel")] == ["a.md"])
        workspace.write("a.md", "a pike")
        eventually(lambda: [passage.text for passage in search("kestrel")] == ["a pike"])


def test_a_save_is_indexed_before_a_long_import_ends(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1600):
        workspace.write(f"import/{number}.md", f"text {number}")
    embed, calls = workspace.embedder.embed_documents, iter(range(1000))

    def embed_slowly(texts: list[str]) -> Vectors:
        if next(calls) == 10:
            workspace.write("fresh.md", "kestrel")
        if "kestrel" not in workspace.embedder.embedded:
            time.sleep(0.02)
        return embed(texts)

    monkeypatch.setattr(workspace.embedder, "embed_documents", embed_slowly)
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=3600)
    with workspace.running():
        eventually(lambda: "kestrel" in workspace.embedder.embedded)
        assert len(workspace.embedder.embedded) < 1600


def test_a_root_that_vanishes_keeps_its_documents_and_is_followed_when_it_returns(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=0.3)
    away = workspace.root.with_name("away")
    with workspace.running():
        _await_equal(workspace)
        workspace.root.rename(away)
        eventually(lambda: workspace.status().error)
        assert workspace.texts() == {"a.md": "one"}
        away.rename(workspace.root)
        workspace.write("b.md", "two")
        _await_equal(workspace)
        assert workspace.status().error is None


def test_a_root_that_is_made_again_is_followed(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=0.3)
    with workspace.running():
        _await_equal(workspace)
        for text in ("two", "three"):
            shutil.rmtree(workspace.root)
            eventually(lambda: workspace.status().error)
            workspace.write("b/c.md", text)
            _await_equal(workspace)
            workspace.write("b/c.md", f"{text}, edited")
            _await_equal(workspace)


def test_a_root_that_is_created_later_is_followed(workspace: Workspace) -> None:
    late = Collection("notes", workspace.root.with_name("late"))
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=0.3)
    with workspace.running(late):
        assert workspace.status().error == "No such file or directory"
        workspace.write("a.md", "one", late.root)
        eventually(lambda: workspace.texts() == {"a.md": "one"})


def test_many_changes_write_a_snapshot_beside_the_work(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.dense.compaction._FEW", 2)
    folder = vectors_folder(workspace.data, workspace.embedder.fingerprint)
    with workspace.running():
        workspace.write("a.md", "one")
        _await_equal(workspace)
        assert not folder.exists()
        workspace.write("b.md", "two")
        _await_equal(workspace)
        eventually(lambda: list(folder.glob("*.vectors")))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scan_interval_s", [0.3, 3600])
def test_any_sequence_of_operations_ends_with_the_index_equal_to_the_disk(
    workspace: Workspace, seed: int, scan_interval_s: float
) -> None:
    chance = random.Random(seed)
    root = workspace.root
    names = ["a.md", "b.txt", "x.md", ".d.md", "e.md.tmp", "f.py"]
    folders = ["", "x", "x/y", "z", ".w", "x.md"]

    def operate(number: int) -> None:
        file, other = (root / chance.choice(folders) / chance.choice(names) for _ in range(2))
        folder, other_folder = (root / chance.choice(folders[1:]) for _ in range(2))
        match chance.randrange(9):
            case 0 | 1 | 2:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"text {number} of {chance.randrange(4)}")
            case 3:
                file.unlink()
            case 4:
                file.replace(other)
            case 5:
                folder.rename(other_folder)
            case 6:
                shutil.rmtree(folder)
            case 7:
                with file.open("a") as opened:
                    opened.write(f"and {number} ")
            case 8:
                other.symlink_to(chance.choice([root, folder, other_folder, file]))

    with _watching(workspace, scan_interval_s):
        for number in range(90):
            with contextlib.suppress(OSError):  # not there, or in the way
                operate(number)
            if number % 30 == 29:
                _await_equal(workspace)
        with workspace.retrieving() as search:
            assert {passage.path for passage in search("text", 100)} == _read_files(root).keys()


def test_a_root_that_was_made_again_is_watched_again(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=3600)
    with workspace.running():
        eventually(lambda: "a.md" in workspace.texts())
        for number in range(3):
            shutil.rmtree(workspace.root)
            workspace.root.mkdir()
            workspace.write("b.md", f"two {number}")
            eventually(lambda text=f"two {number}": workspace.texts() == {"b.md": text})


def test_a_file_saved_before_the_watch_is_set_is_indexed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    watch: Callable[[Watcher], None] = Watcher._watch

    def late(self: Watcher) -> None:
        time.sleep(0.5)  # as long as a large tree takes to register
        watch(self)

    monkeypatch.setattr(Watcher, "_watch", late)
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=3600)
    with workspace.running():
        workspace.write("a.md", "one")
        eventually(lambda: "a.md" in workspace.texts(), 5)
