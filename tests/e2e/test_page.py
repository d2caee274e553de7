"""The page, in a real browser: asking, citations, files, the library, the status, keys; and what it must never do."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Server, serving, write_handbook

from server.access.keys import KeyFile, Role

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DRIVERS = Path(__file__).parents[1] / "web"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MOST_BYTES = 300_000
MOST_PAINT_MS = 300

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


def _driven(driver: str, server: Server, argument: str) -> Any:
    command = ["node", DRIVERS / driver, server.url, BROWSER, argument]
    told = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


@pytest.fixture(scope="module")
def seen(own_server: Server) -> Any:
    """What the browser saw of a server without keys."""
    return _driven("page.mjs", own_server, str(own_server.docs))


@pytest.fixture(scope="module")
def seen_locked(seen: Any, own_server: Server) -> Any:
    """And of the same server when there is one, of the lowest role."""
    keys = KeyFile(own_server.docs.parent / "data")
    _, text = keys.create("staff", Role.READ)
    return {**_driven("key.mjs", own_server, text), "key": text}


def test_answers_with_sources_that_open(seen: Any) -> None:
    assert "sixteen weeks" in seen["answer"]
    assert "sixteen weeks" in seen["passage"]
    assert "first token after" in seen["cost"]


def test_names_the_collections(seen: Any) -> None:
    assert seen["collections"] == ["All collections", "docs"]


def test_copies_an_answer(seen: Any) -> None:
    assert "sixteen weeks" in seen["copied"]
    assert "[1]" in seen["copied"]


def test_keeps_what_was_asked_before_a_question_was_edited(seen: Any) -> None:
    assert "Trains come first" in seen["edited"]
    assert "sixteen weeks" in seen["back"]


def test_does_not_lose_the_focus_of_who_has_only_keys(seen: Any) -> None:
    assert seen["focusAfterEdit"] == "Edit"


def test_knows_sources_before_an_answer_is_complete(seen: Any) -> None:
    assert seen["early"] == 1


def test_stops(seen: Any) -> None:
    assert seen["stopped"]
    assert seen["afterStop"] == 1, "the question without an answer is not told"


def test_asks_about_a_file_that_was_dropped_onto_it(seen: Any) -> None:
    assert "night porter" in seen["added"]
    assert seen["addedSource"] == "Source 1: cat _img src_x onerror_alert(8)_.md"
    assert seen["scope"] == ".added"
    assert "cat.exe" in seen["refused"] and "'.exe' are not read" in seen["refused"]


def test_keeps_conversations_over_a_reload(seen: Any) -> None:
    assert seen["kept"][0] == "Who feeds the office cat?"
    assert seen["kept"][-1] == "How long is parental leave?"


def test_shows_what_became_of_each_file(seen: Any) -> None:
    states = dict(seen["files"])
    assert seen["failed"] == 1
    assert {name: state for name, state in states.items() if state == "can be found"}.keys() == {
        "<img src=x onerror=alert(1)>.md",
        "leave.md",
        "office/keys.txt",
        "travel.md",
    }
    assert states['"><svg onload=alert(6)>.pdf'].startswith("cannot be read: ")
    assert "waits to be read" in seen["retried"]


def test_shows_how_far_the_index_is(seen: Any) -> None:
    """Rising, and without taking the focus from what somebody writes."""
    shares = seen["progress"]
    since_all_are_known = shares[shares.index(min(shares)) :]
    assert len(since_all_are_known) > 1 and since_all_are_known == sorted(since_all_are_known), shares
    assert "34 documents" in seen["library"]
    assert seen["focus"] == "search"


def test_tells_why_a_file_is_not_found(seen: Any) -> None:
    assert any(outcome in seen["explanation"] for outcome in ("found", "floor", "outranked", "room"))


def test_shows_the_status(seen: Any) -> None:
    assert "indexer: ready" in seen["status"]
    assert "Tokens written each second" in seen["status"]


def test_shows_hostile_documents_and_names_as_text(seen: Any) -> None:
    assert "heron <img src=x onerror=alert(3)>" in seen["hostile"]
    assert seen["hostileSource"] == "Source 1: <img src=x onerror=alert(1)>.md"
    assert "<img src=x onerror=alert(3)>" in seen["hostilePassage"]
    assert seen["unsafe"] == []


def test_runs_and_loads_nothing_foreign(seen: Any) -> None:
    assert seen["console"] == []
    assert seen["foreign"] == []


def test_has_no_serious_barrier(seen: Any) -> None:
    assert seen["serious"] == []


def test_is_light(seen: Any) -> None:
    assert 100_000 < seen["bytes"] <= MOST_BYTES


def test_paints_soon(seen: Any) -> None:
    """The median of five; of the best five in a row of a few, for the machine may be busy with something else."""
    assert min(seen["paints_ms"]) <= MOST_PAINT_MS, seen["paints_ms"]


def test_asks_for_a_key_and_takes_no_for_an_answer(seen_locked: Any) -> None:
    assert seen_locked["closed"] and not seen_locked["forgettable"]


def test_takes_another_key_when_the_first_is_wrong(seen_locked: Any) -> None:
    assert seen_locked["collections"] == ["All collections", "docs"]
    assert seen_locked["wrong"] == ""


def test_keeps_a_key_for_this_tab_until_it_is_to_forget_it(seen_locked: Any) -> None:
    assert seen_locked["stored"]["session"] == seen_locked["key"]
    assert seen_locked["key"] not in seen_locked["stored"]["local"]
    assert seen_locked["forgotten"] is None


def test_finds_a_server_again_that_was_away(seen_locked: Any) -> None:
    assert seen_locked["found"] == ""


def test_says_what_a_key_may_not_do(seen_locked: Any) -> None:
    assert "has the role read; this needs write" in seen_locked["refused"]


def test_a_browser_complains_of_nothing_but_refusals(seen_locked: Any) -> None:
    """Those of a key, and of a network that is away, it writes down itself."""
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
