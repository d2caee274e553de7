"""The worker reads, embeds and commits files, and records those that cannot be read."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from index.ingest import worker
from index.ingest.files import read_file
from index.params import IndexingParams
from index.reading.readers import read
from index.types import ParsedDocument
from tests.index.conftest import Workspace, eventually, set_mtime

_CAN_READ_ANYTHING = hasattr(os, "geteuid") and os.geteuid() == 0


def _is_pending(workspace: Workspace, path: str) -> bool:
    return bool(workspace.rows("SELECT 1 FROM documents WHERE path = ? AND state = 'pending'", path))


def test_an_edit_replaces_the_document_and_embeds_only_new_chunks(workspace: Workspace) -> None:
    workspace.write("a.md", "# A\n\none\n\n# B\n\ntwo")
    assert workspace.sync() == 2
    before = workspace.chunk_ids()
    workspace.write("a.md", "# A\n\none\n\n# B\n\ntwo and more")
    assert workspace.sync() == 1
    assert workspace.embedder.embedded[-1] == "B: two and more"
    assert workspace.texts() == {"a.md": "one\ntwo and more"}
    assert workspace.chunk_ids().isdisjoint(before)


def test_a_touched_file_with_the_same_content_changes_nothing(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.sync()
    before = workspace.chunk_ids(), workspace.status().last_change
    set_mtime(file, 1_000_000_001)
    assert workspace.sync() == 0
    assert (workspace.chunk_ids(), workspace.status().last_change) == before
    assert workspace.status().pending == 0
    assert workspace.indexer.work() == 0


def test_an_unchanged_file_is_not_read_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_CLOCK_STEP_NS", 0)
    workspace.write("a.md", "one")
    workspace.write("b.md", b"\0binary")
    workspace.sync()

    def refuse(root: Path, path: str, max_bytes: int) -> None:
        pytest.fail(f"{path} was read again")

    monkeypatch.setattr(worker, "read_file", refuse)
    workspace.sync()
    workspace.start()
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}


def test_a_renamed_file_embeds_nothing(workspace: Workspace) -> None:
    file = workspace.write("a.md", "# A\n\none")
    workspace.sync()
    (workspace.root / "b").mkdir()
    file.rename(workspace.root / "b" / "new.md")
    assert workspace.sync() == 0
    assert workspace.texts() == {"b/new.md": "one"}


def test_a_copy_embeds_nothing_and_outlives_the_original(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.write("b.md", "one")
    assert workspace.sync() == 1
    file.unlink()
    assert workspace.sync() == 0
    assert workspace.texts() == {"b.md": "one"}


def test_a_file_deleted_before_it_is_read_has_no_document(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.indexer.scan()
    file.unlink()
    workspace.indexer.work()
    assert workspace.rows("SELECT path FROM documents") == []


def test_an_unreadable_file_fails_with_a_reason_until_it_is_mended(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.write("b.md", "two")
    workspace.sync()
    workspace.write("a.md", b"\0\1\2")
    workspace.sync()
    assert "binary" in workspace.failures()["a.md"]
    assert workspace.texts() == {"b.md": "two"}
    assert workspace.rows("SELECT text FROM chunks") == [("two",)]
    workspace.write("a.md", "mended")
    workspace.sync()
    assert workspace.failures() == {}
    assert workspace.texts() == {"a.md": "mended", "b.md": "two"}


def test_a_file_whose_old_content_comes_back_is_indexed_again(workspace: Workspace) -> None:
    for content in ("one", b"\0", "one"):
        workspace.write("a.md", content)
        workspace.sync()
    assert workspace.texts() == {"a.md": "one"}
    assert len(workspace.embedder.embedded) == 1


def test_a_file_over_the_limit_is_refused_with_both_sizes(workspace: Workspace) -> None:
    workspace.params = IndexingParams(max_bytes=1000)
    workspace.write("fits.txt", "x" * 1000)
    workspace.write("large.txt", "x" * 1001)
    workspace.sync()
    assert workspace.texts().keys() == {"fits.txt"}
    assert "1,001 bytes" in workspace.failures()["large.txt"]
    assert "1,000 bytes" in workspace.failures()["large.txt"]


@pytest.mark.skipif(_CAN_READ_ANYTHING, reason="root reads files of any mode")
def test_a_file_without_permission_is_indexed_once_there_is_one(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    file.chmod(0)
    workspace.sync()
    assert "denied" in workspace.failures()["a.md"]
    file.chmod(0o600)
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}


def test_a_file_that_the_system_refuses_to_read_is_read_at_the_next_scan(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: Path, path: str, max_bytes: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    workspace.write("a.md", "one")
    with monkeypatch.context() as context:
        context.setattr(worker, "read_file", fail)
        workspace.sync()
        assert workspace.failures() == {"a.md": "Permission denied"}
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}


def test_an_error_in_a_reader_fails_one_file_only(workspace: Workspace) -> None:
    def trip(path: str, content: bytes) -> ParsedDocument:
        if path == "a.md":
            raise KeyError("broken")
        return read(path, content)

    workspace.read = trip
    workspace.write("a.md", "one")
    workspace.write("b.md", "two")
    workspace.sync()
    assert workspace.texts() == {"b.md": "two"}
    assert "KeyError" in workspace.failures()["a.md"]


def test_a_file_replaced_by_a_link_before_it_is_read_is_not_read(workspace: Workspace, tmp_path: Path) -> None:
    secret = workspace.write("secret.md", "secret", tmp_path / "outside")
    file = workspace.write("a.md", "one")
    workspace.indexer.scan()
    file.unlink()
    file.symlink_to(secret)
    workspace.indexer.work()
    assert workspace.texts() == {}
    workspace.sync()
    assert workspace.rows("SELECT path FROM documents") == []


def test_a_document_stays_searchable_until_its_changed_file_is_read(workspace: Workspace) -> None:
    workspace.write("a.md", "kestrel")
    workspace.sync()
    workspace.write("a.md", "kestrel, edited")
    workspace.indexer.scan()
    assert _is_pending(workspace, "a.md")
    with workspace.retrieving() as search:
        assert [passage.text for passage in search("kestrel")] == ["kestrel"]


def test_chunks_keep_to_the_limit_of_the_embedder(workspace: Workspace) -> None:
    workspace.params = IndexingParams(chunk_tokens=8000)
    workspace.embedder.max_tokens = 100
    workspace.write("a.md", f"# {'heading ' * 99}\n\n{' '.join(f'word{number}' for number in range(50))}")
    workspace.sync()
    sizes = [len(text.split()) for text in workspace.embedder.embedded]
    assert len(sizes) == 3
    assert max(sizes) <= 100


def test_a_root_that_vanishes_before_its_files_are_read_keeps_its_documents(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.write("a.md", "one, edited")
    workspace.indexer.scan()
    workspace.root.rename(workspace.root.with_name("elsewhere"))
    workspace.indexer.work()
    assert workspace.rows("SELECT text FROM chunks") == [("one",)]


def test_a_file_mended_while_its_old_content_failed_is_read_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_then_mend(root: Path, path: str, max_bytes: int) -> object:
        result = read_file(root, path, max_bytes)
        workspace.write("a.md", "mended meanwhile")
        return result

    workspace.write("a.md", b"\0")
    with monkeypatch.context() as context:
        context.setattr(worker, "read_file", read_then_mend)
        workspace.sync()
    workspace.sync()
    assert workspace.failures() == {}


def test_a_file_that_the_system_refused_to_read_is_read_after_a_restart(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(root: Path, path: str, max_bytes: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    workspace.write("a.md", "one")
    with monkeypatch.context() as context:
        context.setattr(worker, "read_file", deny)
        workspace.sync()
    assert "a.md" in workspace.failures()
    workspace.start()
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}


def test_opening_a_folder_as_a_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "a.md").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with pytest.raises(Exception, match="not a regular file"):
            read_file(tmp_path, "a.md", 100)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_file_that_cannot_be_read_for_a_moment_is_read_again_soon(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    attempts: list[str] = []

    def refusing_once(root: Path, path: str, max_bytes: int) -> Any:
        attempts.append(path)
        if attempts.count(path) == 1:
            raise OSError(number, os.strerror(number))
        return read_file(root, path, max_bytes)

    monkeypatch.setattr("index.ingest.worker.read_file", refusing_once)
    monkeypatch.setattr("index.ingest.scan_schedule._RETRY_S", 0.3)
    workspace.write("a.md", "a kestrel")
    with workspace.running():
        eventually(lambda: workspace.texts() == {"a.md": "a kestrel"})
    assert attempts == ["a.md", "a.md"]
