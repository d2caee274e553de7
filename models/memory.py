"""How much memory there is for models."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_CGROUP_MOUNT = PurePosixPath("sys/fs/cgroup")
_MODELS_SHARE = 0.8  # of the memory; the rest is for the system, the index and the embedder


def total_memory(root: Path = _ROOT) -> int:
    """Return the bytes this process may use: the machine's memory, or the lowest cgroup limit if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_cgroup_limits(root)])


def default_memory_budget() -> int:
    """Return the bytes that all chat models together may take."""
    return int(_MODELS_SHARE * total_memory())


def format_bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Yield the memory limits, in bytes, of the process's cgroup and of all cgroups above it."""
    for file in _limit_files(root):
        try:
            yield int((root / file).read_text())
        except (OSError, ValueError):  # no limit is set: the file is missing or says "max"
            continue


def _limit_files(root: Path) -> Iterator[PurePosixPath]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        controllers, _, cgroup = line.partition(":")[2].partition(":")
        if not controllers:  # cgroup v2
            yield from _files_up_to_mount(_CGROUP_MOUNT, cgroup, "memory.max", "memory.high")
        elif "memory" in controllers.split(","):  # cgroup v1
            yield from _files_up_to_mount(_CGROUP_MOUNT / "memory", cgroup, "memory.limit_in_bytes")


def _files_up_to_mount(mount: PurePosixPath, cgroup: str, *names: str) -> Iterator[PurePosixPath]:
    """Yield the named files of a cgroup and of all above it. In a container the mount may be its own cgroup."""
    parts = [part for part in cgroup.split("/") if part]
    for depth in range(0 if ".." in parts else len(parts), -1, -1):
        yield from (mount.joinpath(*parts[:depth], name) for name in names)
