"""What holds deletions back, what the indexer is told while it runs, and what it tells."""

import shutil
import time
from pathlib import Path

import pytest

from index.errors import StorageFull
from index.ingest import watcher
from index.ingest.commands import Command, Follow, Pause, Rescan
from index.ingest.progress import Progress, ProgressReporter
from index.ingest.watcher import has_events
from index.params import IndexingParams
from index.types import Collection
from tests.index.conftest import Workspace, eventually, set_mtime


def _fill(workspace: Workspace, count: int = 120) -> None:
    for number in range(count):
        workspace.write(f"{number}.md", f"text {number}")
    workspace.sync()


def _delete(workspace: Workspace, numbers: range) -> None:
    for number in numbers:
        (workspace.root / f"{number}.md").unlink()


def test_most_of_a_collection_does_not_go_at_once(workspace: Workspace) -> None:
    _fill(workspace)
    _delete(workspace, range(100))
    workspace.write("new.md", "new")
    workspace.sync()
    assert (workspace.status().documents, workspace.status().missing) == (121, 100)
    assert workspace.status().missing_since == pytest.approx(time.time(), abs=60)
    workspace.start()
    workspace.sync()
    assert workspace.status().missing == 100


def test_what_was_held_goes_when_a_later_scan_still_says_so(workspace: Workspace) -> None:
    _fill(workspace)
    _delete(workspace, range(100))
    workspace.sync()
    workspace.params = IndexingParams(hold_deletions_s=0)
    workspace.start()
    workspace.sync()
    assert (workspace.status().documents, workspace.status().missing, workspace.status().missing_since) == (20, 0, None)


def test_what_was_held_goes_when_a_person_says_so(workspace: Workspace) -> None:
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


def test_files_that_come_back_are_held_no_longer(workspace: Workspace) -> None:
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
def test_half_of_a_collection_may_go(workspace: Workspace, deleted: int, left: int) -> None:
    _fill(workspace)
    _delete(workspace, range(deleted))
    workspace.sync()
    assert (workspace.status().documents, workspace.status().missing) == (left, 0)


def test_what_was_only_moved_is_not_held(workspace: Workspace) -> None:
    _fill(workspace)
    (workspace.root / "below").mkdir()
    for number in range(120):
        (workspace.root / f"{number}.md").rename(workspace.root / "below" / f"{number}.md")
    assert workspace.sync() == 0
    assert workspace.status().missing == 0
    assert workspace.texts() == {f"below/{number}.md": f"text {number}" for number in range(120)}


def test_what_is_ignored_from_now_on_is_not_held(workspace: Workspace) -> None:
    _fill(workspace)
    workspace.write(".cloisterignore", "1*.md")
    workspace.write("a.md", "kept")
    workspace.sync()
    assert not any(path.startswith("1") for path in workspace.texts())
    workspace.write(".cloisterignore", "*\n!a.md")
    workspace.sync()
    assert workspace.texts() == {"a.md": "kept"}


def test_an_empty_folder_in_the_place_of_another_deletes_nothing(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.root.rename(workspace.root.with_name("away"))
    workspace.root.mkdir()
    workspace.sync()
    assert (workspace.texts(), workspace.status().missing) == ({"a.md": "one"}, 1)
    workspace.write("b.md", "two")
    workspace.sync()
    assert (workspace.texts(), workspace.status().missing) == ({"b.md": "two"}, 0)


def test_an_edit_that_keeps_size_and_time_is_seen_without_an_event(workspace: Workspace) -> None:
    file = workspace.write("a.md", "one")
    set_mtime(file, 1_000_000_001)
    workspace.sync()
    file.write_text("two")
    set_mtime(file, 1_000_000_001)
    workspace.sync()
    assert workspace.texts() == {"a.md": "two"}


def test_the_data_folder_is_not_indexed_should_it_lie_below_a_root(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.data = workspace.root / "data"
    workspace.write("data/lexical/meta.json", '{"a": 1}')
    workspace.write("a.md", "one")
    workspace.sync()
    assert workspace.texts().keys() == {"a.md"}
    workspace.close()


def test_an_ignore_file_is_followed(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.write("b/c.md", "two")
    with workspace.running():
        eventually(lambda: len(workspace.texts()) == 2)
        rules = workspace.write(".cloisterignore", "b/")
        eventually(lambda: workspace.texts().keys() == {"a.md"})
        workspace.write("b/d.md", "three")
        rules.unlink()
        eventually(lambda: workspace.texts().keys() == {"a.md", "b/c.md", "b/d.md"})


def test_polling_follows_without_events(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchfiles.watch", lambda *_, **__: pytest.fail("events were asked for"))
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=0.1, watch="poll")
    with workspace.running():
        file = workspace.write("a.md", "one")
        eventually(lambda: workspace.texts() == {"a.md": "one"})
        file.rename(workspace.root / "b.md")
        eventually(lambda: workspace.texts() == {"b.md": "one"})


def test_where_the_system_refuses_events_folders_are_polled(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watcher.watchfiles, "watch", refuse)
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=0.1)
    with workspace.running():
        workspace.write("a.md", "one")
        eventually(lambda: workspace.texts() == {"a.md": "one"})


@pytest.mark.parametrize(
    ("root", "expected"),
    [("/home/a", True), ("/mnt/share", False), ("/mnt/share/a b", False), ("/mnt/sharea", True), ("/mnt/x y/a", False)],
)
def test_network_file_systems_have_no_events(tmp_path: Path, root: str, expected: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/vda / ext4 rw 0 0\nnas:/a /mnt/share nfs4 rw 0 0\n//nas/b /mnt/x\\040y cifs rw 0 0\n")
    assert has_events(Path(root), mounts) is expected
    assert has_events(Path(root), tmp_path / "none")


def test_commands_are_obeyed_while_it_runs(workspace: Workspace, tmp_path: Path) -> None:
    commands: list[Command] = []
    progress: list[Progress] = []
    workspace.write("a.md", "one")
    workspace.write("b.md", "two", tmp_path / "other")

    def next_commands() -> list[Command]:
        taken, commands[:] = commands[:], []
        return taken

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


def test_a_rescan_tries_again_what_could_not_be_read(workspace: Workspace) -> None:
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


def test_a_rescan_tries_one_file_again_when_it_is_named(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.write("b.md", "two")
    reader, workspace.read = workspace.read, lambda path, content: [][0]
    workspace.sync()
    workspace.read = reader
    workspace.start()
    workspace.indexer.handle(Rescan(("notes",), path="b.md"))
    workspace.sync()
    assert (workspace.texts(), workspace.failures().keys()) == ({"b.md": "two"}, {"a.md"})


def test_a_database_that_cannot_be_written_is_said_and_tried_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.ingest.indexer._RETRY_WRITING_S", 0.05)
    progress: list[Progress] = []
    with workspace.running(report=progress.append):
        assert workspace.writer is not None
        replace = workspace.writer.replace
        is_full = True

        def refuse(*arguments: object, **named: object) -> None:
            if is_full:
                raise StorageFull("database or disk is full")
            replace(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(workspace.writer, "replace", refuse)
        workspace.write("a.md", "one")
        eventually(lambda: any(each.error and "disk is full" in each.error for each in progress))
        assert workspace.texts() == {}
        is_full = False
        eventually(lambda: workspace.texts() == {"a.md": "one"})
        eventually(lambda: progress[-1].activity == "idle" and progress[-1].error is None)


def test_moved_files_embed_nothing_though_a_generation_is_written_between(workspace: Workspace) -> None:
    _fill(workspace, 20)
    shutil.move(workspace.root, workspace.root.with_name("moved"))
    workspace.root.mkdir()
    (workspace.root.with_name("moved")).rename(workspace.root / "below")
    workspace.indexer.scan()
    assert workspace.status().documents == 0
    workspace.indexer.write_generation()
    assert workspace.sync() == 0
    assert workspace.status().documents == 20


def test_rates_and_lag_are_measured_and_told_sparingly() -> None:
    now = 100.0
    told: list[Progress] = []
    pace = ProgressReporter(told.append, lambda: now)
    pace.report("idle")
    assert told == []
    pace.note_backlog(True)
    for number in range(100):
        now += 0.1
        pace.report("indexing", "notes", f"{number}.md")
        pace.count_file(1000)
    assert 20 <= len(told) <= 50
    assert told[-1].files_per_s == pytest.approx(10, rel=0.2)
    assert told[-1].bytes_per_s == pytest.approx(10_000, rel=0.2)
    assert told[-1].lag_s == pytest.approx(10, abs=1)
    now += 60
    pace.note_backlog(False)
    pace.report("idle")
    assert told[-1] == Progress("idle")
