"""Ignore files and folders without events, followed by the indexer's own loop."""

from pathlib import Path

import pytest

from index.ingest import watcher
from index.ingest.watcher import has_events
from index.params import IndexingParams
from tests.index.conftest import Workspace, eventually


def test_a_changed_ignore_file_is_applied(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.write("b/c.md", "two")
    with workspace.running():
        eventually(lambda: len(workspace.texts()) == 2)
        rules = workspace.write(".cloisterignore", "b/")
        eventually(lambda: workspace.texts().keys() == {"a.md"})
        workspace.write("b/d.md", "three")
        rules.unlink()
        eventually(lambda: workspace.texts().keys() == {"a.md", "b/c.md", "b/d.md"})


def test_polled_folders_are_followed_without_events(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchfiles.watch", lambda *_, **__: pytest.fail("events were asked for"))
    workspace.params = IndexingParams(settle_s=0.05, scan_interval_s=0.1, watch="poll")
    with workspace.running():
        file = workspace.write("a.md", "one")
        eventually(lambda: workspace.texts() == {"a.md": "one"})
        file.rename(workspace.root / "b.md")
        eventually(lambda: workspace.texts() == {"b.md": "one"})


def test_folders_are_polled_where_the_system_refuses_events(
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
