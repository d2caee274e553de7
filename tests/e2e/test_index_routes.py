"""The index over HTTP: status, commands, documents."""

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from real_server import Server, serving, wait_until, write_handbook
from test_commands import cloister

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("index")
    write_handbook(folder / "handbook")
    (folder / "more").mkdir()
    (folder / "more" / "lunch.md").write_text("# Lunch\n\nThe canteen serves barley soup on Thursdays.\n")
    (folder / "cloister.toml").write_text(f'[docs]\nhandbook = "{folder / "handbook"}"\n')
    with serving(folder, folder / "handbook", docs_flag=False) as running:
        yield running


def _get(server: Server, path: str) -> dict[str, Any]:
    with server.client() as http:
        body: dict[str, Any] = http.get(path).json()
        return body


def _post(server: Server, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    with server.client() as http:
        response = http.post(path, json=body)
        return response.status_code, response.json()


def test_the_status_counts_indexed_and_pending_files(own_server: Server) -> None:
    wait_until(lambda: _get(own_server, "/v1/index/status")["activity"] == "idle", what="an idle indexer")
    status = _get(own_server, "/v1/index/status")
    (collection,) = status["collections"]
    assert (collection["documents"], collection["pending"], collection["missing"]) == (3, 0, 0)
    assert collection["bytes"] == sum(file.stat().st_size for file in own_server.docs.rglob("*.*"))
    assert (status["indexer"], status["error"], status["current"], status["seconds_left"]) == (
        "ready",
        None,
        None,
        None,
    )


def test_pausing_stops_the_indexing_until_it_is_resumed(own_server: Server) -> None:
    assert _post(own_server, "/v1/index/pause")[0] == 200
    wait_until(lambda: _get(own_server, "/v1/index/status")["activity"] == "paused", what="a paused indexer")
    (own_server.docs / "later.md").write_text("# Later\n\nNobody has read this yet.\n")
    indexer = own_server.child("server.resources.indexer")
    assert indexer is not None
    os.kill(indexer, signal.SIGKILL)
    wait_until(lambda: own_server.child("server.resources.indexer") not in (None, indexer), 30, "another process")
    wait_until(lambda: _get(own_server, "/v1/index/status")["activity"] == "paused", 30, what="still paused")
    assert own_server.status()["documents"] == 3
    assert _post(own_server, "/v1/index/resume")[0] == 200
    wait_until(lambda: own_server.status()["documents"] == 4, what="the file saved while it was paused")
    (own_server.docs / "later.md").unlink()
    wait_until(lambda: own_server.status()["documents"] == 3, what="its going")


def test_a_rescan_of_an_unknown_collection_is_a_404(own_server: Server) -> None:
    assert _post(own_server, "/v1/index/rescan")[0] == 202
    before = own_server.status()["scanned_at"]
    assert _post(own_server, "/v1/index/rescan", {"collection": "handbook", "accept_deletions": True})[0] == 202
    wait_until(lambda: own_server.status()["scanned_at"] > before, what="a scan")
    status, body = _post(own_server, "/v1/index/rescan", {"collection": "nowhere"})
    assert (status, body["error"]["code"]) == (404, "collection_not_found")


def test_documents_are_listed_and_a_failed_one_is_retried(own_server: Server) -> None:
    bad = own_server.docs / "bad.pdf"
    bad.write_bytes(b"%PDF-1.7 no such thing")
    address = "/v1/collections/handbook/documents"
    wait_until(lambda: _get(own_server, f"{address}?state=failed")["data"], what="the failure")
    listing = _get(own_server, address)
    assert [(each["path"], each["state"]) for each in listing["data"]] == [
        ("bad.pdf", "failed"),
        ("leave.md", "indexed"),
        ("office/keys.txt", "indexed"),
        ("travel.md", "indexed"),
    ]
    assert listing["data"][0]["reason"]
    page = _get(own_server, f"{address}?limit=1&after=leave.md&contains=E")
    assert ([each["path"] for each in page["data"]], page["has_more"]) == (["office/keys.txt"], True)
    assert own_server.get(listing["data"][1]["url"]).status_code == 200
    before = own_server.status()["scanned_at"]
    assert _post(own_server, "/v1/index/rescan", {"collection": "handbook", "path": "bad.pdf"})[0] == 202
    wait_until(lambda: own_server.status()["scanned_at"] > before, what="a scan")
    bad.unlink()
    wait_until(lambda: own_server.status()["failed"] == [], what="its going")
    status, body = _post(own_server, "/v1/index/rescan", {"path": "bad.pdf"})
    assert (status, body["error"]["param"]) == (400, "collection")
    assert own_server.get("/v1/collections/.uploads/documents").status_code == 404


def test_events_stream_the_status_when_it_changes(own_server: Server) -> None:
    with own_server.client() as http, http.stream("GET", "/v1/index/events") as stream:
        events = (json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line)
        assert next(events)["collections"][0]["documents"] == 3
        (own_server.docs / "event.md").write_text("# Event\n\nSomething happens.\n")
        deadline = time.monotonic() + 20
        status_event = next(
            event for event in events if event["collections"][0]["documents"] == 4 or time.monotonic() > deadline
        )
    assert status_event["collections"][0]["documents"] == 4


def test_folders_come_and_go_with_the_settings_file(own_server: Server) -> None:
    folder = own_server.docs.parent
    config = folder / "cloister.toml"
    before = config.read_text()

    def names() -> list[str]:
        return [collection["id"] for collection in _get(own_server, "/v1/collections")["data"]]

    def search_hits(question: str) -> dict[int, str]:
        results = _post(own_server, "/v1/search", {"query": question, "top_k": 20})[1]["data"]
        return {result["chunk_id"]: result["path"] for result in results}

    others = search_hits("How long is parental leave?")
    config.write_text(f'{before}more = "{folder / "more"}"\n')
    own_server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: names() == ["handbook", "more"], what="the new collection")
    wait_until(lambda: "barley soup" in own_server.answer("When is barley soup served?", model="cloister/more"), 30)
    soup = next(id for id, path in search_hits("When is barley soup served?").items() if path == "lunch.md")
    config.write_text(f'{before}wrong = "{folder / "nowhere"}"\n')
    own_server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "there is no folder" in own_server.log.read_text(), what="the error")
    assert names() == ["handbook", "more"]
    config.write_text(before)
    own_server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: names() == ["handbook"], what="its going")
    assert own_server.ask("When is barley soup served?", model="cloister/more").status_code == 404
    assert "lunch.md" not in search_hits("When is barley soup served?").values()
    assert search_hits("How long is parental leave?") == others, "nothing was done to the other collection"
    config.write_text(f'{before}more = "{folder / "more"}"\n')
    own_server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: soup in search_hits("When is barley soup served?"), what="the same chunk again")
    config.write_text(before)
    own_server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: names() == ["handbook"], what="its going")


def test_folders_come_and_go_by_the_command_line(own_server: Server) -> None:
    folder = own_server.docs.parent
    config = folder / "cloister.toml"
    before = f"# ours\n{config.read_text()}# and no more\n"
    config.write_text(before)

    def collections(*words: str) -> tuple[int, str]:
        done = cloister("collections", *words, "--url", own_server.url, cwd=folder)
        return done.returncode, done.stdout + done.stderr

    code, output = collections("add", str(folder / "more"))
    assert (code, output.splitlines()[-1]) == (0, "The server watches: handbook, more"), output
    wait_until(lambda: "barley soup" in own_server.answer("When is barley soup served?", model="cloister/more"), 30)
    assert [line.split()[0] for line in collections("list")[1].splitlines()] == ["handbook", "more"]
    assert "# ours" in config.read_text() and "# and no more" in config.read_text()
    code, output = collections("add", str(folder / "more"))
    assert (code, output.count("\n"), "use another name" in output) == (1, 1, True)
    code, output = collections("rescan", "nowhere")
    assert (code, output.count("\n"), "nowhere" in output) == (1, 1, True)
    assert collections("rescan", "more")[0] == 0
    assert collections("rm", "more") == (0, "cloister.toml: more is removed\nThe server watches: handbook\n")
    assert config.read_text() == before
    code, output = collections("add", "lost=nowhere")
    assert (code, "there is no folder" in output, config.read_text()) == (2, True, before)
    config.write_text(f'{before}lost = "{folder / "nowhere"}"\n')
    assert _post(own_server, "/v1/index/reload")[0] == 400
    config.write_text(before)
