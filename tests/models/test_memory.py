"""The memory that models may take, inside and outside of cgroups."""

import os
from pathlib import Path

import pytest

from models import memory
from models.memory import format_bytes, total_memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
SERVICE = "0::/system.slice/cloister.service"
OWN_CGROUP = "system.slice/cloister.service"
NO_LIMIT = "9223372036854771712"  # as cgroup v1 writes it


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("cgroups", "files", "expected"),
    [
        ("0::/", {"sys/fs/cgroup/memory.max": "3000"}, 3000),
        ("0::/", {"sys/fs/cgroup/memory.max": "max"}, MACHINE),
        ("0::/", {"sys/fs/cgroup/memory.max": str(MACHINE + 1)}, MACHINE),
        (SERVICE, {f"sys/fs/cgroup/{OWN_CGROUP}/memory.max": "4000", "sys/fs/cgroup/memory.max": "max"}, 4000),
        (
            SERVICE,
            {f"sys/fs/cgroup/{OWN_CGROUP}/memory.max": "4000", "sys/fs/cgroup/system.slice/memory.max": "2000"},
            2000,
        ),
        (
            SERVICE,
            {f"sys/fs/cgroup/{OWN_CGROUP}/memory.max": "4000", f"sys/fs/cgroup/{OWN_CGROUP}/memory.high": "3500"},
            3500,
        ),
        (SERVICE, {"sys/fs/cgroup/memory.max": "5000"}, 5000),
        (SERVICE, {"sys/fs/cgroup/other.slice/memory.max": "10"}, MACHINE),
        ("0::/../../elsewhere", {"sys/fs/cgroup/memory.max": "6000", "sys/elsewhere/memory.max": "10"}, 6000),
        ("4:memory:/box", {"sys/fs/cgroup/memory/box/memory.limit_in_bytes": "7000"}, 7000),
        ("4:cpu,memory:/box", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "8000"}, 8000),
        ("4:memory:/box\n0::/", {"sys/fs/cgroup/memory/box/memory.limit_in_bytes": NO_LIMIT}, MACHINE),
        ("4:cpu:/box", {"sys/fs/cgroup/memory/box/memory.limit_in_bytes": "10"}, MACHINE),
        ("2:cpu:/a\n1:memory:/b:c", {"sys/fs/cgroup/memory/b:c/memory.limit_in_bytes": "9000"}, 9000),
        ("", {}, MACHINE),
    ],
)
def test_total_memory_is_the_lowest_cgroup_limit_up_to_the_mount(
    tmp_path: Path, cgroups: str, files: dict[str, str], expected: int
) -> None:
    assert total_memory(write_files(tmp_path, {"proc/self/cgroup": cgroups, **files})) == expected


def test_total_memory_is_the_machine_s_without_cgroups(tmp_path: Path) -> None:
    assert total_memory(tmp_path) == MACHINE


def test_default_memory_budget_leaves_a_fifth_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 10_000_000_000)
    assert memory.default_memory_budget() == 8_000_000_000


@pytest.mark.parametrize(
    ("size", "expected"),
    [(12_100_000_000, "12.1 GB"), (1_000_000_000, "1.0 GB"), (194_400_000, "194 MB"), (0, "0 MB")],
)
def test_format_bytes_chooses_gigabytes_or_megabytes(size: int, expected: str) -> None:
    assert format_bytes(size) == expected
