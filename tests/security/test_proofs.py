"""Short runs of the proofs of durability; docs/durability.md has the figures of the whole ones, run by hand."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROVE = Path(__file__).parents[2] / "scripts" / "prove"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def can_mount() -> bool:
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("proof", "summary"),
    [
        (["kills.py", "--kills", "50"], ": 0 wrong"),
        pytest.param(
            ["full_disk.py", "--stops", "2"],
            ": 0 wrong",
            marks=pytest.mark.skipif(not can_mount(), reason="mounts in a namespace are not permitted"),
        ),
    ],
    ids=["kills", "full disks"],
)
def test_a_proof_of_durability_holds(proof: list[str], summary: str) -> None:
    command = [sys.executable, str(PROVE / proof[0]), *proof[1:]]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert summary in result.stdout
