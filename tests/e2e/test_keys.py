"""Keys and the network's boundary, with a real server and the real command."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_server import Server, run, serving, wait_until, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SECRET = "The safe's combination is 47-11-08.\n"


def cloister(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "server", *arguments, f"--data={folder / 'data'}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def make_key(folder: Path, *arguments: str) -> str:
    result = cloister(folder, "keys", "create", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[0]


@pytest.fixture(scope="module")
def server_with_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("locked")
    (folder / "board").mkdir()
    (folder / "board" / "safe.txt").write_text(SECRET)
    handbook = write_handbook(folder / "handbook")
    with serving(folder, handbook, f"--docs=board={folder / 'board'}", "--host=127.0.0.1") as server:
        yield server, folder


def ask(server: Server, key: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    with server.client() as http:
        all_headers = {"Authorization": f"Bearer {key}", **headers}
        return (
            http.post(path, json=body, headers=all_headers) if body is not None else http.get(path, headers=all_headers)
        )


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_a_running_server_is_locked_and_opened_by_the_command(server_with_keys: tuple[Server, Path]) -> None:
    server, folder = server_with_keys
    assert ask(server, "none", "/v1/models").status_code == 200, "as long as there is no key"
    staff = make_key(folder, "--name=staff", "--collections=handbook", "--rate=600/min", "--expires=30d")
    boss = make_key(folder, "--name=boss", "--role=admin")
    assert code(ask(server, "none", "/v1/models")) == (401, "invalid_api_key")
    assert code(ask(server, staff + "x", "/v1/models")) == (401, "invalid_api_key")
    assert server.is_healthy(), "health needs no key"

    table = cloister(folder, "keys", "list").stdout
    assert re.search(r"staff: read, handbook, 600 requests per minute, until 20\d\d-", table)
    assert "boss: admin, every collection" in table
    assert staff not in table

    ids = [model["id"] for model in ask(server, staff, "/v1/models").json()["data"]]
    assert "cloister/handbook" in ids
    assert "cloister/board" not in ids
    assert "cloister/board" in [model["id"] for model in ask(server, boss, "/v1/models").json()["data"]]

    question = {"query": "What is the safe's combination?"}
    (passage, *_) = ask(server, boss, "/v1/search", question).json()["data"]
    assert passage["text"] == SECRET.strip()
    for path, body in (
        ("/v1/search", question),
        ("/v1/search", {**question, "explain": True, "expect": "safe.txt"}),
        ("/v1/search", {**question, "collections": ["board"]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": question["query"]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "?"}], "model": "cloister/board"}),
        ("/v1/index/status", None),
        ("/v1/collections", None),
        (f"/documents/{passage['document_id']}?chunk={passage['chunk_id']}", None),
    ):
        reply = ask(server, staff, path, body)
        assert "47-11-08" not in reply.text
        assert str(folder / "board") not in reply.text
    hidden = ask(server, staff, f"/documents/{passage['document_id']}", Accept="application/json")
    gone = ask(server, staff, "/documents/999999", Accept="application/json")
    assert (code(hidden), code(gone)) == ((404, "not_found"), (404, "not_found"))
    assert "47-11-08" in ask(server, boss, f"/documents/{passage['document_id']}").text

    assert code(ask(server, staff, "/v1/index/rescan", {})) == (403, "insufficient_role")
    assert ask(server, boss, "/v1/index/rescan", {}).status_code == 202

    assert cloister(folder, "keys", "revoke", "staff").returncode == 0
    assert code(ask(server, staff, "/v1/models")) == (401, "invalid_api_key")
    assert "clst_" not in server.log.read_text()


def test_an_unknown_file_is_explained_alike_in_a_hidden_collection_and_in_none(
    server_with_keys: tuple[Server, Path],
) -> None:
    server, folder = server_with_keys
    key = make_key(folder, "--name=curious", "--collections=handbook")
    explanations = []
    for expect in ({"collection": "board", "path": "safe.txt"}, {"collection": "nothing", "path": "safe.txt"}):
        body = {"query": "safe", "explain": True, "expect": expect}
        (file,) = ask(server, key, "/v1/search", body).json()["explanation"]["expected"]
        explanations.append((file["outcome"], file["reason"].replace(expect["collection"], "…")))
    assert explanations[0] == explanations[1]


def test_another_name_and_another_site_are_refused(server_with_keys: tuple[Server, Path]) -> None:
    server, folder = server_with_keys
    key = make_key(folder, "--name=browser")
    assert code(ask(server, key, "/v1/models", Host="evil.example")) == (403, "unsupported_host")
    assert code(ask(server, key, "/v1/models", Origin="http://evil.example")) == (403, "foreign_origin")
    assert ask(server, key, "/v1/models", Origin=server.url).status_code == 200
    _, port = server.url.rsplit(":", 1)
    with socket.create_connection(("127.0.0.1", int(port)), 5) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(100).startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_not_let_in_without_a_key(tmp_path: Path, host: str) -> None:
    result = run("--port=0", f"--data={tmp_path / 'data'}", f"--host={host}", cwd=tmp_path)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1
    assert "create one first: cloister keys create" in line


def test_with_a_key_other_machines_are_let_in(tmp_path: Path) -> None:
    key = make_key(tmp_path, "--name=lan")
    with serving(tmp_path, write_handbook(tmp_path / "handbook"), "--host=0.0.0.0") as server:
        assert ask(server, key, "/v1/models").status_code == 200
        assert ask(server, key, "/v1/models", Host="192.168.7.7:8000").status_code == 200
        assert code(ask(server, key, "/v1/models", Host="library:8000")) == (403, "unsupported_host")
        assert ask(server, "none", "/v1/models").status_code == 401
        assert wait_until(lambda: "Listening on 0.0.0.0" in server.log.read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create"], "required: --name"),
        (["create", "--name=a b"], "a name has 1 to 64"),
        (["create", "--name=a", "--rate=many"], "a rate is at least one request per minute"),
        (["create", "--name=a", "--rate=30/h"], "a rate is at least one request per minute"),
        (["create", "--name=a", "--expires=soon"], "a time is a number and its unit"),
        (["create", "--name=a", "--role=root"], "invalid choice: 'root'"),
        (["revoke", "nobody"], "there is no key 'nobody'"),
        ([], "required: ACTION"),
    ],
)
def test_an_error_of_the_keys_command_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    if arguments:
        result = cloister(tmp_path, "keys", *arguments)
    else:
        command = [sys.executable, "-m", "server", "keys"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode in (1, 2)
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
