"""Files of docs/deploy: the unit is valid for systemd, and unit and container name existing settings and folders."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.settings.reading import read_settings

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
UNIT = DEPLOY / "cloister.service"


def test_the_unit_s_environment_names_settings(tmp_path: Path) -> None:
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("Environment=")]
    environment = dict(each.split("=", 1) for each in line.removeprefix("Environment=").split())
    settings = read_settings(None, environment, {})
    assert (settings.data, settings.cache) == ("/var/lib/cloister", "/var/cache/cloister")
    assert settings.docs == {"handbook": "/srv/handbook"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert not [line for line in result.stderr.splitlines() if UNIT.name in line and "cloister" in line], result.stderr


def test_the_container_mounts_folders_of_the_dockerfile() -> None:
    compose, dockerfile = (DEPLOY / "compose.yaml").read_text(), (DEPLOY.parents[1] / "Dockerfile").read_text()
    mounts = re.findall(r"^ +- (?!\")\S.*:(/\w+)(?::ro)?$", compose, re.MULTILINE)
    assert mounts == ["/docs", "/data"]
    assert all(f'"{mount}"' in dockerfile for mount in mounts)
    assert re.search(r"127\.0\.0\.1:8000:(\d+)", compose)[1] in dockerfile  # type: ignore[index]
