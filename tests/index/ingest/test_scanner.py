"""Scans of a folder: new, changed and deleted files, odd names, roots that cannot be read."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index.errors import UnreadableDocument
from index.ingest.files import read_file
from index.types import Collection
from tests.index.conftest import Workspace, eventually, set_mtime


def test_new_files_of_every_depth_are_indexed(workspace: Workspace) -> None:
    files = {"a.md": "one", "b/c.txt": "two", "b/d/e/f.md": "three", "b/d/empty.md": ""}
    for path, text in files.items():
        workspace.write(path, text)
    assert workspace.sync() == 3
    assert workspace.texts() == files


def test_an_edit_that_keeps_the_size_is_found_by_its_time(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.sync()
    file.write_text("two")
    set_mtime(file, 1_000_000_001)  # older than before
    workspace.sync()
    assert workspace.texts() == {"a.md": "two"}


def test_the_document_of_a_deleted_file_is_deleted(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.sync()
    file.unlink()
    workspace.sync()
    assert workspace.texts() == {}
    assert workspace.rows("SELECT id FROM chunks UNION ALL SELECT rowid FROM words") == []
    assert workspace.status().documents == 0


def test_a_renamed_folder_keeps_its_documents_and_embeds_nothing(workspace: Workspace) -> None:
    for path in ("old/a.md", "old/b/c.md", "old-er/d.md", "old.md"):
        workspace.write(path, path)
    workspace.sync()
    (workspace.root / "old").rename(workspace.root / "new")
    assert workspace.sync() == 0
    assert workspace.texts() == {
        "new/a.md": "old/a.md", "new/b/c.md": "old/b/c.md", "old-er/d.md": "old-er/d.md", "old.md": "old.md"
    }  # fmt: skip


def test_the_documents_of_a_deleted_folder_are_deleted(workspace: Workspace) -> None:
    file = workspace.write("gone/b/c.md", "two")
    workspace.write("stays.md", "three")
    workspace.sync()
    file.unlink()
    file.parent.rmdir()
    file.parent.parent.rmdir()
    workspace.sync()
    assert workspace.texts() == {"stays.md": "three"}


def test_a_folder_can_take_the_place_of_a_file_and_back(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.sync()
    file.unlink()
    inside = workspace.write("a.md/b.md", "two")
    workspace.sync()
    assert workspace.texts() == {"a.md/b.md": "two"}
    inside.unlink()
    inside.parent.rmdir()
    workspace.write("a.md", "three")
    workspace.sync()
    assert workspace.texts() == {"a.md": "three"}


@pytest.mark.parametrize(
    "path",
    [
        ".hidden.md", ".git/a.md", "b/.cache/c.md", "a.md~", "a.md.tmp", ".a.md.swp", "a.txt.part", "a.md.CRDOWNLOAD",
        "a.exe", "a", "Makefile", "4913",
    ],
)  # fmt: skip
def test_files_with_hidden_temporary_or_unreadable_names_are_not_indexed(workspace: Workspace, path: str) -> None:
    workspace.write(path, "one")
    workspace.sync()
    assert workspace.rows("SELECT path FROM documents") == []


def test_symbolic_links_are_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("secret.md", "secret", tmp_path / "outside")
    (workspace.root / "file.md").symlink_to(tmp_path / "outside" / "secret.md")
    (workspace.root / "folder").symlink_to(tmp_path / "outside")
    (workspace.root / "loop").symlink_to(workspace.root)
    (workspace.root / "dangling.md").symlink_to("nowhere")
    workspace.write("a.md", "one")
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}
    assert workspace.failures() == {}


def test_a_pipe_is_not_indexed(workspace: Workspace) -> None:
    os.mkfifo(workspace.root / "pipe.md")
    workspace.sync()
    assert workspace.rows("SELECT path FROM documents") == []
    with pytest.raises(UnreadableDocument, match="regular file"):
        read_file(workspace.root, "pipe.md", 100)  # at once, without a writer at the other end


def test_a_vanished_root_deletes_nothing_and_the_status_says_why(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.root.rename(workspace.root.with_name("elsewhere"))
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}
    assert workspace.status().error == "No such file or directory"
    workspace.root.with_name("elsewhere").rename(workspace.root)
    assert workspace.sync() == 0
    assert workspace.status().error is None
    assert workspace.texts() == {"a.md": "one"}


def test_a_root_that_became_a_file_deletes_nothing(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.root.rename(workspace.root.with_name("elsewhere"))
    workspace.root.write_text("in the way")
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}
    assert workspace.status().error == "Not a directory"


def test_one_vanished_root_does_not_stop_the_others(workspace: Workspace, tmp_path: Path) -> None:
    workspace.start(Collection("gone", tmp_path / "missing"), Collection("notes", workspace.root))
    workspace.write("a.md", "one")
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}
    assert [(status.name, status.error) for status in workspace.catalog.status()] == [
        ("gone", "No such file or directory"),
        ("notes", None),
    ]


def test_paths_of_any_characters_are_stored_unchanged(workspace: Workspace) -> None:
    paths = {"Ü ber/日本 – 'x' \"y\".md", "a%_?[b]*.md", "line\nbreak.md", "-.md", "\U0001f600.md"}
    for path in paths:
        workspace.write(path, path)
    workspace.sync()
    assert workspace.texts().keys() == paths


def test_an_edit_that_keeps_size_and_time_is_found_without_an_event(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    set_mtime(file, 1_000_000_001)
    workspace.sync()
    file.write_text("two")
    set_mtime(file, 1_000_000_001)
    workspace.sync()
    assert workspace.texts() == {"a.md": "two"}


def test_a_data_folder_below_a_root_is_not_indexed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.data = workspace.root / "data"
    workspace.write("data/lexical/meta.json", '{"a": 1}')
    workspace.write("a.md", "one")
    workspace.sync()
    assert workspace.texts().keys() == {"a.md"}
    workspace.close()


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_more_folders_than_descriptors_are_all_listed(workspace: Workspace) -> None:
    for number in range(300):
        workspace.write(f"{number}/a.md", f"text {number}")
    workspace.sync()
    workspace.sync()
    assert len(workspace.texts()) == 300


def test_a_file_whose_name_is_not_unicode_is_skipped(workspace: Workspace) -> None:
    Path(os.fsdecode(os.fsencode(workspace.root) + b"/caf\xe9.md")).write_text("one")
    workspace.write("a.md", "two")
    workspace.sync()
    assert workspace.texts() == {"a.md": "two"}


def test_a_folder_that_cannot_be_listed_keeps_its_documents(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write("b/a.md", "one")
    workspace.write("c.md", "two")
    workspace.sync()
    scandir = os.scandir

    def fail_for_b(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail_for_b)
    (workspace.root / "c.md").unlink()
    workspace.sync()
    assert workspace.texts() == {"b/a.md": "one"}


def test_a_document_is_kept_while_its_ignore_file_cannot_be_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.ingest.scan_schedule._RETRY_S", 0.5)
    workspace.write("a.md", "a kestrel")
    with workspace.running():
        eventually(lambda: workspace.texts() == {"a.md": "a kestrel"})
        paths: list[str] = []

        def refusing_once(root: Path, path: str) -> bool:
            paths.append(path)
            if len(paths) == 1:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return True

        monkeypatch.setattr("index.ingest.scanner.is_indexable", refusing_once)
        workspace.write("a.md", "two kestrels")
        eventually(lambda: paths)
        states = {tuple(workspace.texts()) for _ in range(20)}
        eventually(lambda: workspace.texts() == {"a.md": "two kestrels"})
    assert states == {("a.md",)}
