"""The page, in a real browser: asking, citations, the library, the status; and what it must never do."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import serving, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DRIVER = Path(__file__).parents[1] / "web" / "page.mjs"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MOST_BYTES = 300_000
MOST_PAINT_MS = 300


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the browser saw."""
    if BROWSER is None or shutil.which("node") is None:
        pytest.skip("needs chromium and node")
    if not (DRIVER.parent / "node_modules").is_dir():
        pytest.skip("needs `npm --prefix tests/web ci`")
    folder = tmp_path_factory.mktemp("page")
    with serving(folder, write_handbook(folder / "docs")) as server:
        told = subprocess.run(
            ["node", DRIVER, server.url, BROWSER], capture_output=True, text=True, timeout=200, check=False
        )
    assert told.returncode == 0, told.stderr
    yield json.loads(told.stdout)


def test_answers_with_sources_that_open(seen: dict[str, Any]) -> None:
    assert "sixteen weeks" in seen["answer"]
    assert "sixteen weeks" in seen["passage"]
    assert "first token after" in seen["cost"]


def test_keeps_conversations_over_a_reload(seen: dict[str, Any]) -> None:
    assert seen["kept"] == "How long is parental leave?"


def test_shows_the_library_and_why_a_file_is_not_found(seen: dict[str, Any]) -> None:
    assert "3 documents" in seen["library"]
    assert any(outcome in seen["explanation"] for outcome in ("found", "floor", "outranked", "room"))


def test_shows_the_status(seen: dict[str, Any]) -> None:
    assert "indexer: ready" in seen["status"]
    assert "Tokens written each second" in seen["status"]


def test_runs_and_loads_nothing_foreign(seen: dict[str, Any]) -> None:
    assert seen["console"] == []
    assert seen["foreign"] == []
    assert seen["unsafe"] == 0


def test_has_no_serious_barrier(seen: dict[str, Any]) -> None:
    assert seen["serious"] == []


def test_is_light(seen: dict[str, Any]) -> None:
    assert 0 < seen["bytes"] <= MOST_BYTES


def test_paints_soon(seen: dict[str, Any]) -> None:
    """Within three times the target, for machines that do other things too."""
    assert seen["paint_ms"] <= 3 * MOST_PAINT_MS
