"""Crashes, kills and failures in the middle of indexing: nothing committed is lost, and nothing is done twice."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from index.errors import StorageFull
from index.ingest.progress import Progress
from tests.index.conftest import Workspace, eventually

_SYNC = """
import sys
from pathlib import Path
from tests.index.conftest import Workspace
Workspace(Path(sys.argv[1])).sync()
"""


def _is_pending(workspace: Workspace, path: str) -> bool:
    return bool(workspace.rows("SELECT 1 FROM documents WHERE path = ? AND state = 'pending'", path))


def test_work_that_a_crash_interrupted_goes_on(workspace: Workspace) -> None:
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


def test_a_crash_between_two_groups_repeats_nothing_of_the_first(workspace: Workspace) -> None:
    for number in range(40):
        workspace.write(f"{number}.md", f"text {number}")
    workspace.indexer.scan()
    result = workspace.indexer.work()
    assert 0 < result < 40
    assert workspace.status().documents == result
    workspace.crash()
    assert workspace.sync() == 40 - result
    assert workspace.status().documents == 40


def _sync_and_kill(workspace: Workspace, num_documents: int) -> None:
    """Start another process that indexes, and kill it once so many documents are indexed."""
    child = subprocess.Popen([sys.executable, "-c", _SYNC, workspace.root.parent], cwd=Path(__file__).parents[3])
    try:
        eventually(lambda: workspace.status().documents >= num_documents or child.poll() is not None, 30)
    finally:
        child.kill()
    assert child.wait() in (-signal.SIGKILL, 0)  # 0: it was done before the kill, on a busy machine


def test_a_kill_at_any_instant_loses_nothing_that_was_committed(workspace: Workspace) -> None:
    for number in range(400):
        workspace.write(f"{number % 7}/{number}.md", f"# A\n\none {number}\n\n# B\n\ntwo {number}")
    workspace.start()
    for num_documents in (1, 50, 100, 150):
        _sync_and_kill(workspace, num_documents)
        assert workspace.rows("PRAGMA integrity_check") == [("ok",)]
        assert workspace.rows("SELECT id FROM chunks ORDER BY id") == workspace.rows("SELECT rowid FROM words")
        assert set(workspace.texts().values()) <= {f"one {number}\ntwo {number}" for number in range(400)}
        assert workspace.status().documents >= num_documents
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


def test_a_database_that_cannot_be_written_is_reported_and_tried_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.ingest.indexer._RETRY_WRITING_S", 0.05)
    progress: list[Progress] = []
    with workspace.running(report=progress.append):
        assert workspace.writer is not None
        replace = workspace.writer.replace
        is_full = True

        def refuse(*arguments: object, **keywords: object) -> None:
            if is_full:
                raise StorageFull("database or disk is full")
            replace(*arguments, **keywords)  # type: ignore[arg-type]

        monkeypatch.setattr(workspace.writer, "replace", refuse)
        workspace.write("a.md", "one")
        eventually(lambda: any(each.error and "disk is full" in each.error for each in progress))
        assert workspace.texts() == {}
        is_full = False
        eventually(lambda: workspace.texts() == {"a.md": "one"})
        eventually(lambda: progress[-1].activity == "idle" and progress[-1].error is None)
