"""POST /mcp, message by message, with a fake index."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from index.types import Passage
from server.access.hosts import Hosts
from server.access.keys import Role
from server.access.middleware import Access
from server.storage.local.keys import KeyFile
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

PASSAGE = Passage(3, 7, "handbook", "leave.md", ("Leave",), "Sixteen weeks.", 1, 1, 0.9)
HEADERS = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex([PASSAGE])


@pytest.fixture
def client(tmp_path: Path, index: FakeIndex) -> Iterator[TestClient[Any]]:
    with serving(tmp_path, ScriptedChatModel(), index) as client:
        yield client


def call(client: TestClient[Any], name: str, key: str = "", **arguments: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    headers = {**HEADERS, **({"Authorization": f"Bearer {key}"} if key else {})}
    response = client.post("/mcp", json=message, headers=headers).raise_for_status()
    assert response.headers["content-type"].startswith("application/json")
    body: dict[str, Any] = response.json()
    return body


def test_a_call_needs_no_session(client: TestClient[Any], index: FakeIndex) -> None:
    result = call(client, "search", query="parental leave", limit=3, collections=["handbook"])["result"]
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    (result_row,) = result["structuredContent"]["results"]
    assert (result_row["id"], result_row["title"], result_row["text"]) == (
        "7-3",
        "handbook/leave.md › Leave",
        "Sixteen weeks.",
    )
    assert result_row["url"] == "http://testserver.local/documents/7?chunk=3#chunk-3"
    assert index.searches == [(["parental leave"], 3, ["handbook"], None)]


def test_the_handshake_of_older_protocol_versions_works(client: TestClient[Any]) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    result = client.post("/mcp", json=message, headers=HEADERS).raise_for_status().json()["result"]
    assert result["serverInfo"]["name"] == "cloister"
    assert result["capabilities"]["tools"] is not None
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert client.post("/mcp", json=done, headers=HEADERS).status_code == 202


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"\xff", 400), (b"[" * 5000, 400), (b'{"jsonrpc": "2.0"}', 400), (b"7", 400), (b"", 400)],
)
def test_invalid_messages_are_refused(client: TestClient[Any], body: bytes, status: int) -> None:
    response = client.post("/mcp", content=body, headers={**HEADERS, "Content-Type": "application/json"})
    assert (response.status_code, response.json()["jsonrpc"]) == (status, "2.0")
    assert call(client, "search", query="leave")["result"]["isError"] is False


def test_an_unknown_tool_is_an_error_of_the_protocol(client: TestClient[Any]) -> None:
    error = call(client, "remove")["error"]
    assert (error["code"], error["message"]) == (
        -32602,
        "Unknown tool 'remove'; use one of: search, fetch, list_collections.",
    )


def test_other_methods_and_large_bodies_are_refused(client: TestClient[Any]) -> None:
    for method in ("GET", "DELETE"):
        assert client.request(method, "/mcp").status_code == 405
    assert client.post("/mcp", content=b" " * (5 << 20), headers=HEADERS).status_code == 413


def test_a_key_sees_its_own_collections(tmp_path: Path, index: FakeIndex) -> None:
    keys = KeyFile(tmp_path)
    _, text = keys.create("narrow", Role.READ, ["policies"])
    access = Access(Hosts("127.0.0.1", ["testserver.local"]), keys=keys)
    with serving(tmp_path, ScriptedChatModel(), index, access) as client:
        assert client.post("/mcp", json={}, headers=HEADERS).status_code == 401
        assert call(client, "search", text, query="leave")["result"]["isError"] is False
        refusal = call(client, "search", text, query="leave", collections=["handbook"])["result"]
        assert refusal["isError"]
        assert refusal["content"][0]["text"] == "There is no collection 'handbook'; there are: policies."
    assert [collections for _, _, collections, _ in index.searches] == [("policies",)]
