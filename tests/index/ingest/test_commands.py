"""Commands that a running indexer carries out."""

from pathlib import Path

import pytest

from index.ingest.commands import Command, Follow, Pause, Rescan
from index.ingest.progress import Progress
from index.types import Collection
from tests.index.conftest import Workspace, eventually


def test_a_running_indexer_carries_out_commands(workspace: Workspace, tmp_path: Path) -> None:
    commands: list[Command] = []
    progress: list[Progress] = []
    workspace.write("a.md", "one")
    workspace.write("b.md", "two", tmp_path / "other")

    def next_commands() -> list[Command]:
        current, commands[:] = commands[:], []
        return current

    with workspace.running(receive_commands=next_commands, report=progress.append):
        eventually(lambda: workspace.texts() == {"a.md": "one"})
        commands.append(Pause(True))
        eventually(lambda: progress[-1].activity == "paused")
        workspace.write("c.md", "three")
        commands.append(Follow({"other": str(tmp_path / "other")}))
        eventually(lambda: not commands)
        assert workspace.texts().keys() == {"a.md"}
        assert workspace.texts("other") == {}
    workspace.collections = [Collection("other", tmp_path / "other")]
    with workspace.running(receive_commands=next_commands, report=progress.append, is_paused=True):
        commands.append(Pause(False))
        eventually(lambda: workspace.texts("other") == {"b.md": "two"})
        commands.append(Follow({"notes": str(workspace.root)}))
        eventually(lambda: workspace.texts() == {"a.md": "one", "c.md": "three"})
        workspace.write("d.md", "four")
        eventually(lambda: "d.md" in workspace.texts())
        eventually(lambda: progress[-1].activity == "idle")
    assert any(each.path == "d.md" and each.activity == "indexing" for each in progress)


def test_a_rescan_reads_failed_files_again(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    reader, workspace.read = workspace.read, lambda path, content: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        workspace.sync()
    workspace.read = lambda path, content: [][0]
    workspace.start()
    workspace.sync()
    assert workspace.failures().keys() == {"a.md"}
    workspace.read = reader
    workspace.start()
    workspace.sync()
    assert workspace.failures().keys() == {"a.md"}
    workspace.indexer.handle(Rescan())
    workspace.sync()
    assert workspace.texts() == {"a.md": "one"}


def test_a_rescan_of_a_path_reads_that_file_again(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.write("b.md", "two")
    reader, workspace.read = workspace.read, lambda path, content: [][0]
    workspace.sync()
    workspace.read = reader
    workspace.start()
    workspace.indexer.handle(Rescan(("notes",), path="b.md"))
    workspace.sync()
    assert (workspace.texts(), workspace.failures().keys()) == ({"b.md": "two"}, {"a.md"})
