"""What the world does to an indexer: odd names, denied folders, roots that come and go, saves at the wrong moment."""

import errno
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from index.ingest import worker
from index.ingest.chunker import Chunker
from index.ingest.files import read_file
from index.ingest.watcher import Watcher
from index.params import IndexingParams
from index.reading.readers import read
from index.storage.sqlite.database import FILE
from tests.index.conftest import Workspace, eventually


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


def test_a_name_that_is_not_unicode_is_passed_over_and_stops_nothing(workspace: Workspace) -> None:
    Path(os.fsdecode(os.fsencode(workspace.root) + b"/caf\xe9.md")).write_text("one")
    workspace.write("a.md", "two")
    workspace.sync()
    assert workspace.texts() == {"a.md": "two"}


def test_a_folder_that_cannot_be_listed_loses_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write("b/a.md", "one")
    workspace.write("c.md", "two")
    workspace.sync()
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    (workspace.root / "c.md").unlink()
    workspace.sync()
    assert workspace.texts() == {"b/a.md": "one"}


def test_a_root_that_vanishes_with_work_pending_loses_nothing(workspace: Workspace) -> None:
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


def test_a_file_the_system_denied_is_read_after_a_restart(
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


def test_reading_what_is_no_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "a.md").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with pytest.raises(Exception, match="not a regular file"):
            read_file(tmp_path, "a.md", 100)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_root_made_again_is_watched_again(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=3600)
    with workspace.running():
        eventually(lambda: "a.md" in workspace.texts())
        for number in range(3):
            shutil.rmtree(workspace.root)
            workspace.root.mkdir()
            workspace.write("b.md", f"two {number}")
            eventually(lambda wanted=f"two {number}": workspace.texts() == {"b.md": wanted})


def test_what_is_saved_before_the_watch_is_set_is_found(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    watch: Callable[[Watcher], None] = Watcher._watch

    def late(self: Watcher) -> None:
        time.sleep(0.5)  # as long as a large tree takes to register
        watch(self)

    monkeypatch.setattr(Watcher, "_watch", late)
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=3600)
    with workspace.running():
        workspace.write("a.md", "one")
        eventually(lambda: "a.md" in workspace.texts(), 5)


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


def test_another_chunk_size_cuts_everything_anew(workspace: Workspace) -> None:
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


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("# A\n\none\n\n# A\n\ntwo", ["one", "two"]),
        ("# A\n\none\n\n##\n\ntwo", ["one", "two"]),
        ("---\n\nFirst part.\n\n---\n\nSecond part.\n", ["First part. Second part."]),
        ("---\n---\nFirst part.\n\n---\n\nSecond part.\n", ["First part. Second part."]),
        ("---\ntitle: x\n---", []),
        ("---\ntitle: x\ntags: [a]\n---\n\nText.", ["Text."]),
    ],
)
def test_no_chunk_crosses_a_heading_and_only_front_matter_is_left_out(text: str, chunks: list[str]) -> None:
    found = Chunker(lambda part: len(part.split()), 100).chunks(read("a.md", text.encode()))
    words = [chunk.text.replace("---", "").split() for chunk in found]
    assert [" ".join(chunk) for chunk in words if chunk] == chunks


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_file_that_cannot_be_read_for_a_moment_is_read_soon(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    tried: list[str] = []

    def refusing_once(root: Path, path: str, max_bytes: int) -> Any:
        tried.append(path)
        if tried.count(path) == 1:
            raise OSError(number, os.strerror(number))
        return read_file(root, path, max_bytes)

    monkeypatch.setattr("index.ingest.worker.read_file", refusing_once)
    monkeypatch.setattr("index.ingest.scan_schedule._RETRY_S", 0.3)
    workspace.write("a.md", "a kestrel")
    with workspace.running():
        eventually(lambda: workspace.texts() == {"a.md": "a kestrel"})
    assert tried == ["a.md", "a.md"]


def test_a_file_is_kept_while_nobody_knows_whether_it_is_ignored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.ingest.scan_schedule._RETRY_S", 0.5)
    workspace.write("a.md", "a kestrel")
    with workspace.running():
        eventually(lambda: workspace.texts() == {"a.md": "a kestrel"})
        asked: list[str] = []

        def refusing_once(root: Path, path: str) -> bool:
            asked.append(path)
            if len(asked) == 1:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return True

        monkeypatch.setattr("index.ingest.scanner.is_indexable", refusing_once)
        workspace.write("a.md", "two kestrels")
        eventually(lambda: asked)
        seen = {tuple(workspace.texts()) for _ in range(20)}
        eventually(lambda: workspace.texts() == {"a.md": "two kestrels"})
    assert seen == {("a.md",)}
