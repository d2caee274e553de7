import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from index.errors import UnreadableDocument
from index.ingest import worker
from index.ingest.files import read_file
from index.params import IndexingParams
from index.reading.readers import read
from index.types import Collection, Parsed
from tests.index.conftest import HashEmbedder, Workspace, eventually, set_mtime

_SYNC = """
import sys
from pathlib import Path
from tests.index.conftest import Workspace
Workspace(Path(sys.argv[1])).sync()
"""
_CAN_READ_ANYTHING = hasattr(os, "geteuid") and os.geteuid() == 0


def _is_pending(workspace: Workspace, path: str) -> bool:
    return bool(workspace.rows("SELECT 1 FROM documents WHERE path = ? AND state = 'pending'", path))


def test_new_files_of_every_depth_are_indexed(workspace: Workspace) -> None:
    files = {"a.md": "one", "b/c.txt": "two", "b/d/e/f.md": "three", "b/d/empty.md": ""}
    for path, text in files.items():
        workspace.write(path, text)
    assert workspace.sync() == 3
    assert workspace.texts() == files


def test_an_edit_replaces_the_document_and_embeds_only_what_is_new(workspace: Workspace) -> None:
    workspace.write("a.md", "# A\n\none\n\n# B\n\ntwo")
    assert workspace.sync() == 2
    before = workspace.chunk_ids()
    workspace.write("a.md", "# A\n\none\n\n# B\n\ntwo and more")
    assert workspace.sync() == 1
    assert workspace.embedder.embedded[-1] == "B: two and more"
    assert workspace.texts() == {"a.md": "one\ntwo and more"}
    assert workspace.chunk_ids().isdisjoint(before)


def test_an_edit_of_the_same_size_is_seen_by_its_time(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.sync()
    file.write_text("two")
    set_mtime(file, 1_000_000_001)  # older than before
    workspace.sync()
    assert workspace.texts() == {"a.md": "two"}


def test_a_touch_changes_nothing(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.sync()
    before = workspace.chunk_ids(), workspace.status().last_change
    set_mtime(file, 1_000_000_001)
    assert workspace.sync() == 0
    assert (workspace.chunk_ids(), workspace.status().last_change) == before
    assert workspace.status().pending == 0
    assert workspace.indexer.work() == 0


def test_nothing_is_read_twice(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_rename_embeds_nothing(workspace: Workspace) -> None:
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


def test_a_deleted_file_is_forgotten(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.sync()
    file.unlink()
    workspace.sync()
    assert workspace.texts() == {}
    assert workspace.rows("SELECT id FROM chunks UNION ALL SELECT rowid FROM words") == []
    assert workspace.status().documents == 0


def test_a_file_that_goes_before_it_is_read_is_forgotten(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    workspace.indexer.scan()
    file.unlink()
    workspace.indexer.work()
    assert workspace.rows("SELECT path FROM documents") == []


def test_a_renamed_folder_takes_its_documents_along(workspace: Workspace) -> None:
    for path in ("old/a.md", "old/b/c.md", "old-er/d.md", "old.md"):
        workspace.write(path, path)
    workspace.sync()
    (workspace.root / "old").rename(workspace.root / "new")
    assert workspace.sync() == 0
    assert workspace.texts() == {
        "new/a.md": "old/a.md", "new/b/c.md": "old/b/c.md", "old-er/d.md": "old-er/d.md", "old.md": "old.md"
    }  # fmt: skip


def test_a_deleted_folder_takes_its_documents_along(workspace: Workspace) -> None:
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


def test_an_unreadable_file_is_a_row_with_its_reason_until_it_is_mended(workspace: Workspace) -> None:
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


def test_a_file_that_goes_back_to_what_it_was_is_indexed_again(workspace: Workspace) -> None:
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


def test_a_file_the_system_would_not_read_is_tried_again_at_the_next_scan(
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


def test_a_reader_that_trips_over_one_file_fails_that_file_only(workspace: Workspace) -> None:
    def trip(path: str, content: bytes) -> Parsed:
        if path == "a.md":
            raise KeyError("broken")
        return read(path, content)

    workspace.read = trip
    workspace.write("a.md", "one")
    workspace.write("b.md", "two")
    workspace.sync()
    assert workspace.texts() == {"b.md": "two"}
    assert "KeyError" in workspace.failures()["a.md"]


@pytest.mark.parametrize(
    "path",
    [
        ".hidden.md", ".git/a.md", "b/.cache/c.md", "a.md~", "a.md.tmp", ".a.md.swp", "a.txt.part", "a.md.CRDOWNLOAD",
        "a.exe", "a", "Makefile", "4913",
    ],
)  # fmt: skip
def test_hidden_temporary_and_foreign_names_are_no_documents(workspace: Workspace, path: str) -> None:
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


def test_a_pipe_is_no_document(workspace: Workspace) -> None:
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


def test_status_counts_documents_chunks_and_what_is_pending(workspace: Workspace) -> None:
    assert workspace.catalog.status() == []
    workspace.start()
    assert workspace.status().scanned_at is None
    workspace.write("a.md", "# A\n\none\n\n# B\n\ntwo")
    workspace.write("b.md", "three")
    workspace.write("c.md", b"\0")
    workspace.indexer.scan()
    status = workspace.status()
    assert (status.documents, status.chunks, status.pending, status.failed) == (0, 0, 3, [])
    assert (status.root, status.error, status.last_change) == (str(workspace.root), None, None)
    workspace.sync()
    status = workspace.status()
    assert (status.documents, status.chunks, status.pending) == (2, 3, 0)
    assert status.scanned_at is not None
    assert status.last_change is not None


def test_a_document_is_read_with_its_chunks_in_order(workspace: Workspace) -> None:
    assert workspace.catalog.read_document(1) is None
    workspace.write("a.md", "# A\n\none\n\n## B\n\ntwo\nthree")
    workspace.sync()
    document = workspace.catalog.read_document(1)
    assert document is not None
    assert (document.collection, document.path) == ("notes", "a.md")
    assert [(chunk.heading, chunk.text, chunk.line_from, chunk.line_to) for chunk in document.chunks] == [
        (("A",), "one", 3, 3),
        (("A", "B"), "two\nthree", 7, 8),
    ]
    assert workspace.catalog.read_document(2) is None


def test_the_topic_is_a_heading_else_a_name(workspace: Workspace) -> None:
    assert workspace.catalog.topic() is None
    workspace.write("travel policy.txt", "sixteen weeks")
    workspace.sync()
    assert workspace.catalog.topic() == "travel policy"
    workspace.write("leave.md", "# Handbook\n\n## Parental leave\n\nsixteen weeks")
    workspace.sync()
    assert workspace.catalog.topic() == "Parental leave"


def test_an_inactive_collection_is_hidden_and_comes_back_for_nothing(workspace: Workspace, tmp_path: Path) -> None:
    notes, other = Collection("notes", workspace.root), Collection("other", tmp_path / "other")
    workspace.write("a.md", "kestrel one")
    workspace.write("b.md", "kestrel two", other.root)
    workspace.start(notes, other)
    workspace.sync()
    workspace.start(other)
    workspace.sync()
    with workspace.retrieving() as search:
        assert [passage.path for passage in search("kestrel")] == ["b.md"]
    assert [status.name for status in workspace.catalog.status()] == ["other"]
    assert workspace.catalog.read_document(1) is None
    workspace.start(notes, other)
    assert workspace.sync() == 0
    with workspace.retrieving() as search:
        assert {passage.path for passage in search("kestrel")} == {"a.md", "b.md"}


def test_a_folder_under_another_collection_name_embeds_nothing(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.start(Collection("renamed", workspace.root))
    assert workspace.sync() == 0
    assert workspace.texts("renamed") == {"a.md": "one"}


def test_a_collection_with_another_root_holds_what_is_there(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("a.md", "one")
    workspace.write("b.md", "two")
    workspace.sync()
    workspace.write("a.md", "another one", tmp_path / "other")
    workspace.start(Collection("notes", tmp_path / "other"))
    workspace.sync()
    assert workspace.texts() == {"a.md": "another one"}


def test_collections_may_lie_within_each_other(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.write("inner/b.md", "two")
    workspace.start(Collection("notes", workspace.root), Collection("inner", workspace.root / "inner"))
    assert workspace.sync() == 2
    assert workspace.texts("notes") == {"a.md": "one", "inner/b.md": "two"}
    assert workspace.texts("inner") == {"b.md": "two"}


def test_another_embedder_embeds_everything_anew(workspace: Workspace) -> None:
    workspace.write("a.md", "kestrel")
    workspace.write("b.md", "pike")
    workspace.write("c.md", b"\0")
    workspace.sync()
    workspace.embedder = second = HashEmbedder("hash-b", 32)
    with workspace.running():
        eventually(lambda: (workspace.catalog.vector_space() or pytest.fail("no space")).fingerprint == "hash-b")
        assert workspace.status().documents == 2
        assert sorted(second.embedded) == ["kestrel", "pike"]
        with workspace.retrieving() as search:
            (best, *_) = search("kestrel")
        assert best.path == "a.md"
        assert best.similarity == pytest.approx(1, abs=1e-3)


def test_chunk_ids_are_never_used_again(workspace: Workspace) -> None:
    seen: set[int] = set()
    for text in ("one", "two", "one"):
        workspace.write("a.md", text)
        workspace.sync()
        assert seen.isdisjoint(workspace.chunk_ids())
        seen |= workspace.chunk_ids()
        workspace.start()
        (workspace.root / "a.md").unlink()
        workspace.sync()
    assert len(seen) == 3


def test_work_that_a_crash_cut_off_is_taken_up(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.write("a.md", "one, edited")
    for number in range(40):
        workspace.write(f"new{number}.md", f"text {number}")
    workspace.indexer.scan()
    assert workspace.status().pending == 41
    workspace.crash()
    assert workspace.rows("SELECT text FROM chunks") == [("one",)]
    workspace.sync()
    assert workspace.status().pending == 0
    assert workspace.texts() == {"a.md": "one, edited"} | {f"new{number}.md": f"text {number}" for number in range(40)}


def test_a_crash_between_two_groups_repeats_none_of_the_first(workspace: Workspace) -> None:
    for number in range(40):
        workspace.write(f"{number}.md", f"text {number}")
    workspace.indexer.scan()
    done = workspace.indexer.work()
    assert 0 < done < 40
    assert workspace.status().documents == done
    workspace.crash()
    assert workspace.sync() == 40 - done
    assert workspace.status().documents == 40


def _sync_and_kill(workspace: Workspace, wanted: int) -> None:
    """Has another process index, and kills it once so many documents are there."""
    child = subprocess.Popen([sys.executable, "-c", _SYNC, workspace.root.parent], cwd=Path(__file__).parents[3])
    try:
        eventually(lambda: workspace.status().documents >= wanted or child.poll() is not None, 30)
    finally:
        child.kill()
    assert child.wait() in (-signal.SIGKILL, 0)  # 0: it was done before the kill, on a busy machine


def test_a_kill_at_any_instant_loses_nothing_that_was_committed(workspace: Workspace) -> None:
    for number in range(400):
        workspace.write(f"{number % 7}/{number}.md", f"# A\n\none {number}\n\n# B\n\ntwo {number}")
    workspace.start()
    for wanted in (1, 50, 100, 150):
        _sync_and_kill(workspace, wanted)
        assert workspace.rows("PRAGMA integrity_check") == [("ok",)]
        assert workspace.rows("SELECT id FROM chunks ORDER BY id") == workspace.rows("SELECT rowid FROM words")
        assert set(workspace.texts().values()) <= {f"one {number}\ntwo {number}" for number in range(400)}
        assert workspace.status().documents >= wanted
        assert not workspace.rows("SELECT id FROM chunks WHERE content_hash NOT IN (SELECT content_hash FROM vectors)")
    ((num_stored,),) = workspace.rows("SELECT count(*) FROM vectors")
    assert workspace.sync() == 800 - int(str(num_stored))
    assert len(workspace.texts()) == 400


def test_an_embedder_that_fails_leaves_its_documents_pending(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(texts: list[str]) -> None:
        raise RuntimeError("out of memory")

    workspace.write("a.md", "one")
    with monkeypatch.context() as context:
        context.setattr(workspace.embedder, "embed_documents", fail)
        with pytest.raises(RuntimeError):
            workspace.sync()
    assert _is_pending(workspace, "a.md")
    workspace.start()
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}


def test_what_is_being_reread_stays_findable(workspace: Workspace) -> None:
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


def test_a_path_of_any_letters_is_kept_as_it_is(workspace: Workspace) -> None:
    paths = {"Ü ber/日本 – 'x' \"y\".md", "a%_?[b]*.md", "line\nbreak.md", "-.md", "\U0001f600.md"}
    for path in paths:
        workspace.write(path, path)
    workspace.sync()
    assert workspace.texts().keys() == paths
