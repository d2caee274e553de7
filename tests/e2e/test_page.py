"""The page in a real browser: asking, citations, files, the library, the status, keys, and safety."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Server, serving, write_handbook

from server.access.keys import Role
from server.storage.local.keys import KeyFile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DRIVERS = Path(__file__).parents[1] / "web"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MAX_BYTES = 300_000
MAX_PAINT_MS = 300

HOSTILE = {
    "<img src=x onerror=alert(1)>.md": "# <script>alert(2)</script>\n\n"
    "The vault opens with the word heron <img src=x onerror=alert(3)> [x](javascript:alert(4)) "
    "<b onclick=alert(5)>now</b>.\n",
    '"><svg onload=alert(6)>.pdf': "<script>alert(7)</script>",
}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if BROWSER is None or shutil.which("node") is None:
        pytest.skip("needs chromium and node")
    if not (DRIVERS / "node_modules").is_dir():
        pytest.skip("needs `npm --prefix tests/web ci`")
    folder = tmp_path_factory.mktemp("page")
    docs = write_handbook(folder / "docs")
    for name, text in HOSTILE.items():
        (docs / name).write_text(text)
    with serving(folder, docs) as server:
        yield server


def run_driver(driver: str, server: Server, argument: str) -> Any:
    command = ["node", DRIVERS / driver, server.url, BROWSER, argument]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def seen(own_server: Server) -> Any:
    """What the browser reports of a server without keys."""
    return run_driver("page.mjs", own_server, str(own_server.docs))


@pytest.fixture(scope="module")
def seen_locked(seen: Any, own_server: Server) -> Any:
    """What the browser reports of the same server once it has a key, of the lowest role."""
    keys = KeyFile(own_server.docs.parent / "data")
    _, text = keys.create("staff", Role.READ)
    return {**run_driver("key.mjs", own_server, text), "key": text}


def test_an_answer_has_sources_that_open(seen: Any) -> None:
    assert "sixteen weeks" in seen["answer"]
    assert "sixteen weeks" in seen["passage"]
    assert "time to first token" in seen["cost"]


def test_the_scope_selection_lists_the_collections(seen: Any) -> None:
    assert seen["collections"] == ["All collections", "docs"]


def test_copying_an_answer_puts_its_text_on_the_clipboard(seen: Any) -> None:
    assert "sixteen weeks" in seen["copied"]
    assert "[1]" in seen["copied"]


def test_an_edited_question_keeps_the_branch_before_it(seen: Any) -> None:
    assert "Trains come first" in seen["edited"]
    assert "sixteen weeks" in seen["back"]


def test_keyboard_focus_survives_a_cancelled_edit(seen: Any) -> None:
    assert seen["focusAfterEdit"] == "Edit"


def test_sources_are_known_before_an_answer_is_complete(seen: Any) -> None:
    assert seen["early"] == 1


def test_stopping_an_answer_drops_its_question_from_later_requests(seen: Any) -> None:
    assert seen["stopped"]
    assert seen["afterStop"] == 1, "the question without an answer is not sent"


def test_a_dropped_file_can_be_asked_about(seen: Any) -> None:
    assert "night porter" in seen["added"]
    assert seen["addedSource"] == "Source 1: cat _img src_x onerror_alert(8)_.md"
    assert seen["scope"] == ".added"
    assert "cat.exe" in seen["refused"] and "'.exe' are not read" in seen["refused"]


def test_conversations_survive_a_reload(seen: Any) -> None:
    assert seen["kept"][0] == "Who feeds the office cat?"
    assert seen["kept"][-1] == "How long is parental leave?"


def test_the_library_shows_the_state_of_each_file(seen: Any) -> None:
    states = dict(seen["files"])
    assert seen["failed"] == 1
    assert {name: state for name, state in states.items() if state == "Indexed"}.keys() == {
        "<img src=x onerror=alert(1)>.md",
        "leave.md",
        "office/keys.txt",
        "travel.md",
    }
    assert states['"><svg onload=alert(6)>.pdf'].startswith("Failed: ")
    assert "Queued" in seen["retried"]


def test_indexing_progress_rises_without_taking_the_focus(seen: Any) -> None:
    shares = seen["progress"]
    since_all_are_known = shares[shares.index(min(shares)) :]
    assert len(since_all_are_known) > 1 and since_all_are_known == sorted(since_all_are_known), shares
    assert "34 documents" in seen["library"]
    assert seen["focus"] == "search"


def test_the_explanation_names_the_outcome_for_a_file(seen: Any) -> None:
    assert any(outcome in seen["explanation"] for outcome in ("found", "floor", "outranked", "room"))


def test_the_status_view_shows_processes_and_plots(seen: Any) -> None:
    assert "indexer: ready" in seen["status"]
    assert "Tokens per second" in seen["status"]


def test_hostile_documents_and_names_are_shown_as_text(seen: Any) -> None:
    assert "heron <img src=x onerror=alert(3)>" in seen["hostile"]
    assert seen["hostileSource"] == "Source 1: <img src=x onerror=alert(1)>.md"
    assert "<img src=x onerror=alert(3)>" in seen["hostilePassage"]
    assert seen["unsafe"] == []


def test_the_page_runs_and_loads_nothing_foreign(seen: Any) -> None:
    assert seen["console"] == []
    assert seen["foreign"] == []


def test_the_page_has_no_serious_accessibility_barrier(seen: Any) -> None:
    assert seen["serious"] == []


def test_the_page_stays_within_its_size(seen: Any) -> None:
    assert 100_000 < seen["bytes"] <= MAX_BYTES


def test_the_first_paint_is_quick(seen: Any) -> None:
    """The best median of several rounds of five, since the machine may be busy with something else."""
    assert min(seen["paints_ms"]) <= MAX_PAINT_MS, seen["paints_ms"]


def test_the_key_dialog_can_be_dismissed(seen_locked: Any) -> None:
    assert seen_locked["closed"] and not seen_locked["forgettable"]


def test_a_wrong_key_can_be_replaced(seen_locked: Any) -> None:
    assert seen_locked["collections"] == ["All collections", "docs"]
    assert seen_locked["wrong"] == ""


def test_a_key_is_stored_for_this_tab_until_it_is_forgotten(seen_locked: Any) -> None:
    assert seen_locked["stored"]["session"] == seen_locked["key"]
    assert seen_locked["key"] not in seen_locked["stored"]["local"]
    assert seen_locked["forgotten"] is None


def test_the_page_recovers_when_the_server_returns(seen_locked: Any) -> None:
    assert seen_locked["found"] == ""


def test_an_upload_that_the_role_forbids_shows_the_reason(seen_locked: Any) -> None:
    assert "has the role read; this needs write" in seen_locked["refused"]


def test_the_console_shows_nothing_but_expected_refusals(seen_locked: Any) -> None:
    """A browser logs refused keys and an absent network by itself."""
    failed = "Failed to load resource: "
    refusals = tuple(
        failed + each
        for each in (
            "the server responded with a status of 401",
            "the server responded with a status of 403",
            "net::ERR_INTERNET_DISCONNECTED",
        )
    )
    assert [text for text in seen_locked["console"] if not text.startswith(refusals)] == []
    assert (seen_locked["foreign"], seen_locked["unsafe"], seen_locked["serious"]) == ([], [], [])
