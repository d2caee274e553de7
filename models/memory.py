"""How much memory there is for models."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_GROUPS = PurePosixPath("sys/fs/cgroup")
_SHARE = 0.8  # of the machine's; the rest is the system's, the index's and the embedder's


def total_memory(root: Path = _ROOT) -> int:
    """Bytes this process may use: the machine's, or the limit of a control group around it if one is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def default_budget() -> int:
    """Bytes for all chat models together."""
    return int(_SHARE * total_memory())


def readable(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _limits(root: Path) -> Iterator[int]:
    """Of the process's control groups: a container's, a service's, and whatever they are part of."""
    for file in _limit_files(root):
        try:
            yield int((root / file).read_text())
        except (OSError, ValueError):  # none is set here: no such file, or "max"
            continue


def _limit_files(root: Path) -> Iterator[PurePosixPath]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        controllers, _, group = line.partition(":")[2].partition(":")
        if not controllers:  # version 2
            yield from _around(_GROUPS, group, "memory.max", "memory.high")
        elif "memory" in controllers.split(","):  # version 1
            yield from _around(_GROUPS / "memory", group, "memory.limit_in_bytes")


def _around(mount: PurePosixPath, group: str, *names: str) -> Iterator[PurePosixPath]:
    """The files of a group and of all above it. A container may see only the mount, which is then its own group."""
    parts = [part for part in group.split("/") if part]
    for depth in range(0 if ".." in parts else len(parts), -1, -1):
        yield from (mount.joinpath(*parts[:depth], name) for name in names)
