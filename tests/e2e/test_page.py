"""The page in real Chromium, driven by tests/web: answers, files, the library, the status, keys, and safety."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_server import Server, serving, write_handbook

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
def browser_report(own_server: Server) -> Any:
    """Return the browser's report of a server without keys."""
    return run_driver("page.mjs", own_server, str(own_server.docs))


@pytest.fixture(scope="module")
def browser_report_with_key(browser_report: Any, own_server: Server) -> Any:
    """Return the browser's report of the same server with a key of the lowest role."""
    keys = KeyFile(own_server.docs.parent / "data")
    _, text = keys.create("staff", Role.READ)
    return {**run_driver("key.mjs", own_server, text), "key": text}


def test_an_answer_has_sources_that_open(browser_report: Any) -> None:
    assert "sixteen weeks" in browser_report["answer"]
    assert "sixteen weeks" in browser_report["passage"]
    assert "time to first token" in browser_report["cost"]


def test_the_scope_selection_lists_the_collections(browser_report: Any) -> None:
    assert browser_report["collections"] == ["All collections", "docs"]


def test_copying_an_answer_puts_its_text_on_the_clipboard(browser_report: Any) -> None:
    assert "sixteen weeks" in browser_report["copied"]
    assert "[1]" in browser_report["copied"]


def test_an_edited_question_keeps_the_branch_before_it(browser_report: Any) -> None:
    assert "Trains come first" in browser_report["edited"]
    assert "sixteen weeks" in browser_report["back"]


def test_keyboard_focus_survives_a_cancelled_edit(browser_report: Any) -> None:
    assert browser_report["focusAfterEdit"] == "Edit"


def test_sources_are_known_before_an_answer_is_complete(browser_report: Any) -> None:
    assert browser_report["early"] == 1


def test_stopping_an_answer_drops_its_question_from_later_requests(browser_report: Any) -> None:
    assert browser_report["stopped"]
    assert browser_report["afterStop"] == 1, "the question without an answer is not sent"


def test_a_dropped_file_can_be_asked_about(browser_report: Any) -> None:
    assert "night porter" in browser_report["added"]
    assert browser_report["addedSource"] == "Source 1: cat _img src_x onerror_alert(8)_.md"
    assert browser_report["scope"] == ".added"
    assert "cat.exe" in browser_report["refused"] and "'.exe' are not read" in browser_report["refused"]


def test_conversations_survive_a_reload(browser_report: Any) -> None:
    assert browser_report["kept"][0] == "Who feeds the office cat?"
    assert browser_report["kept"][-1] == "How long is parental leave?"


def test_the_library_shows_the_state_of_each_file(browser_report: Any) -> None:
    states = dict(browser_report["files"])
    assert browser_report["failed"] == 1
    assert {name: state for name, state in states.items() if state == "Indexed"}.keys() == {
        "<img src=x onerror=alert(1)>.md",
        "leave.md",
        "office/keys.txt",
        "travel.md",
    }
    assert states['"><svg onload=alert(6)>.pdf'].startswith("Failed: ")
    assert "Queued" in browser_report["retried"]


def test_indexing_progress_rises_without_taking_the_focus(browser_report: Any) -> None:
    shares = browser_report["progress"]
    since_all_are_known = shares[shares.index(min(shares)) :]
    assert len(since_all_are_known) > 1 and since_all_are_known == sorted(since_all_are_known), shares
    assert "34 documents" in browser_report["library"]
    assert browser_report["focus"] == "search"


def test_the_explanation_names_the_outcome_for_a_file(browser_report: Any) -> None:
    assert any(outcome in browser_report["explanation"] for outcome in ("found", "floor", "outranked", "room"))


def test_the_status_view_shows_processes_and_plots(browser_report: Any) -> None:
    assert "indexer: ready" in browser_report["status"]
    assert "Tokens per second" in browser_report["status"]


def test_hostile_documents_and_names_are_shown_as_text(browser_report: Any) -> None:
    assert "heron <img src=x onerror=alert(3)>" in browser_report["hostile"]
    assert browser_report["hostileSource"] == "Source 1: <img src=x onerror=alert(1)>.md"
    assert "<img src=x onerror=alert(3)>" in browser_report["hostilePassage"]
    assert browser_report["unsafe"] == []


def test_the_page_runs_and_loads_nothing_foreign(browser_report: Any) -> None:
    assert browser_report["console"] == []
    assert browser_report["foreign"] == []


def test_the_page_has_no_serious_accessibility_barrier(browser_report: Any) -> None:
    assert browser_report["serious"] == []


def test_the_page_stays_within_its_size(browser_report: Any) -> None:
    assert 100_000 < browser_report["bytes"] <= MAX_BYTES


def test_the_first_paint_is_quick(browser_report: Any) -> None:
    """Compare the best of several medians of five, since the machine may be busy with something else."""
    assert min(browser_report["paints_ms"]) <= MAX_PAINT_MS, browser_report["paints_ms"]


def test_the_key_dialog_can_be_dismissed(browser_report_with_key: Any) -> None:
    assert browser_report_with_key["closed"] and not browser_report_with_key["forgettable"]


def test_a_wrong_key_can_be_replaced(browser_report_with_key: Any) -> None:
    assert browser_report_with_key["collections"] == ["All collections", "docs"]
    assert browser_report_with_key["wrong"] == ""


def test_a_key_is_stored_for_this_tab_until_it_is_forgotten(browser_report_with_key: Any) -> None:
    assert browser_report_with_key["stored"]["session"] == browser_report_with_key["key"]
    assert browser_report_with_key["key"] not in browser_report_with_key["stored"]["local"]
    assert browser_report_with_key["forgotten"] is None


def test_the_page_recovers_when_the_server_returns(browser_report_with_key: Any) -> None:
    assert browser_report_with_key["found"] == ""


def test_an_upload_that_the_role_forbids_shows_the_reason(browser_report_with_key: Any) -> None:
    assert "has the role read; this needs write" in browser_report_with_key["refused"]


def test_the_console_shows_nothing_but_expected_refusals(browser_report_with_key: Any) -> None:
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
    assert [text for text in browser_report_with_key["console"] if not text.startswith(refusals)] == []
    assert (
        browser_report_with_key["foreign"],
        browser_report_with_key["unsafe"],
        browser_report_with_key["serious"],
    ) == ([], [], [])
