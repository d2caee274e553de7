"""The rules of docs/clients.md that clients rely on, byte by byte, over a raw connection to a real server."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from real_server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ASKED = [{"role": "user", "content": "How long is parental leave?"}]


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes  # the body as it came, with its chunks' sizes


@contextmanager
def connect(server: Server) -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), 60) as connection:
        yield connection


def send(server: Server, method: str, target: str, body: Any = None, **headers: str) -> Reply:
    """Send a request, with bytes as they are or with any other body as JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    result = {"Host": urlsplit(server.url).netloc, "Connection": "close"}
    result |= {"Content-Type": "application/json", "Content-Length": str(len(content))} if body is not None else {}
    result |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in result.items())
    with connect(server) as connection:
        connection.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + content)
        return read(connection)


def read(connection: socket.socket) -> Reply:
    """Read until the server closes."""
    result = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, raw = result.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = join_chunks(raw) if headers.get("transfer-encoding") == "chunked" else raw
    return Reply(int(first.split()[1]), headers, body, raw)


def join_chunks(raw: bytes) -> bytes:
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        body, raw = body + raw[:length], raw[length + 2 :]
    return body


def chat(
    server: Server, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None, **fields: Any
) -> Reply:
    return send(server, "POST", path, {"messages": ASKED, "model": "cloister", **fields}, **headers or {})


def is_compact(body: bytes) -> bool:
    """Return whether the JSON has no needless spaces."""
    return body == json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/v1/collections", "/v1/index/status", "/v1/nothing"])
def test_r1_json_has_no_spaces_between_its_parts(server: Server, path: str) -> None:
    assert is_compact(send(server, "GET", path).body)


def test_r1_whole_and_streamed_answers_have_no_spaces_either(server: Server) -> None:
    assert b'"content":"' in chat(server).body
    frames = [line[6:] for line in chat(server, stream=True).body.split(b"\n\n") if line.startswith(b"data: {")]
    assert all(map(is_compact, [chat(server).body, *frames]))
    assert any(b'"content":"' in frame for frame in frames)


def test_r2_and_r3_unknown_fields_and_nulls_count_as_absent(server: Server) -> None:
    part = {"type": "text", "text": ASKED[0]["content"], "cache_control": {"type": "ephemeral"}, "x": None}
    message = {"role": "user", "content": [part], "cot_id": 7, "cot_summary": None, "tool_calls": None, "name": None}
    nulls = dict.fromkeys(["temperature", "top_p", "max_tokens", "n", "stop", "tools", "tool_choice", "seed", "user"])
    more = {"samplers": ["top_k"], "id_slot": -1, "cache_prompt": True, "prompt_cache_key": "k", "store": False}
    assert chat(server, messages=[message], **nulls, **more).body.count(b"sixteen weeks") >= 1


@pytest.mark.parametrize("model", ["", None, "cloister"])
def test_r4_no_model_is_the_default_one(server: Server, model: str | None) -> None:
    assert json.loads(chat(server, model=model).body)["model"] == "cloister"


def test_r4_the_model_may_be_left_out(server: Server) -> None:
    reply = send(server, "POST", "/v1/chat/completions", {"messages": ASKED})
    assert json.loads(reply.body)["model"] == "cloister"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer undefined"},
        {"Authorization": ""},
        {"x_api_key": "", "api_key": ""},
        {"Authorization": "Basic eDp5"},
    ],
)
def test_r5_unneeded_credentials_are_ignored(server: Server, headers: dict[str, str]) -> None:
    assert send(server, "GET", "/v1/models", **headers).status == 200


@pytest.mark.parametrize("accept", ["application/json", "application/binary", "text/event-stream", "image/png", ""])
def test_r6_no_accept_header_is_refused(server: Server, accept: str) -> None:
    assert chat(server, headers={"Accept": accept}, stream=True).status == 200
    assert send(server, "GET", "/v1/models", Accept=accept).status == 200


def test_r7_streams_are_neither_compressed_nor_kept_back(server: Server) -> None:
    reply = chat(server, headers={"Accept_Encoding": "gzip, deflate, br, zstd"}, stream=True)
    assert "content-encoding" not in reply.headers
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.raw.count(b"\r\ndata: ") > 2  # each frame a chunk of its own


def test_r8_and_r9_stream_lines_are_data_or_harmless_comments(server: Server) -> None:
    lines = chat(server, stream=True, max_tokens=20).body.split(b"\n")
    assert all(re.match(rb"data: |: keep-alive$|$", line) for line in lines)


def frames(reply: Reply) -> list[Any]:
    """Return the messages of all data lines but the last, which is [DONE]."""
    lines = [line[6:] for line in reply.body.decode().split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_r10_every_frame_has_a_choice_unless_usage_was_requested(server: Server) -> None:
    for options in (None, {}, {"include_usage": False}):
        result = frames(chat(server, stream=True, stream_options=options))
        assert all(frame["choices"] for frame in result)
        assert not any("usage" in frame for frame in result)


def test_r11_usage_is_in_the_last_frame_before_the_end(server: Server) -> None:
    reply = chat(server, stream=True, stream_options={"include_usage": True})
    *before, last = frames(reply)
    assert (last["choices"], last["usage"]["prompt_tokens"] > 0) == ([], True)
    assert all(frame["usage"] is None and frame["choices"] for frame in before)
    assert reply.body.endswith(b"data: [DONE]\n\n")


def test_a_stream_has_one_role_one_id_and_one_end(server: Server) -> None:
    result = frames(chat(server, stream=True))
    assert len({(frame["id"], frame["created"], frame["model"], frame["object"]) for frame in result}) == 1
    choices = [frame["choices"][0] for frame in result]
    assert [choice["delta"].get("role") for choice in choices] == ["assistant", *[None] * (len(choices) - 1)]
    assert [choice["finish_reason"] for choice in choices] == [*[None] * (len(choices) - 1), "stop"]


def test_r14_developer_is_system_and_both_limits_are_one(server: Server) -> None:
    result = [
        chat(server, model="reader-v1", messages=[{"role": role, "content": "Be brief."}, *ASKED], **limit, seed=1)
        for role, limit in (("system", {"max_tokens": 5}), ("developer", {"max_completion_tokens": 5}))
    ]
    texts = [json.loads(reply.body) for reply in result]
    assert texts[0]["usage"]["prompt_tokens"] == texts[1]["usage"]["prompt_tokens"]
    assert [text["usage"]["completion_tokens"] <= 5 for text in texts] == [True, True]


@pytest.mark.parametrize("stop", ["zzz", [], None, [f"stop{i}" for i in range(20)]])
def test_r15_stop_is_a_text_or_any_list(server: Server, stop: Any) -> None:
    assert chat(server, stop=stop).status == 200


@pytest.mark.parametrize(
    "target",
    ["/v1/models/cloister%2Fhandbook", "/v1/models/cloister/handbook", "/models/cloister%2fhandbook"],
)
def test_r16_ids_in_paths_may_have_slashes(server: Server, target: str) -> None:
    reply = send(server, "GET", target)
    assert (reply.status, json.loads(reply.body)["id"]) == (200, "cloister/handbook")


@pytest.mark.parametrize("id", ["no:such%3Aq4", "%E2%82%AC", "%00", "%FF", "..%2f..%2fetc", "a" * 5000])
def test_r16_an_unknown_id_is_a_404(server: Server, id: str) -> None:
    reply = send(server, "GET", f"/v1/models/{id}")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "model_not_found")


def test_r18_bare_paths_are_the_same_routes(server: Server) -> None:
    assert chat(server, "/chat/completions").status == 200
    for path in ("/models", "/health"):
        assert send(server, "GET", path).body == send(server, "GET", f"/v1{path}").body


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1", 404),
        ("POST", "/v1/images/generations", 404),
        ("POST", "/v1/audio/speech", 404),
        ("POST", "/v1/moderations", 404),
        ("POST", "/v1/fine_tuning/jobs", 404),
        ("POST", "/v1/assistants", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/chat/completions", 405),
        ("PUT", "/health", 405),
        ("PATCH", "/v1/models", 405),
    ],
)
def test_r19_unknown_routes_are_json_errors(server: Server, method: str, target: str, status: int) -> None:
    reply = send(server, method, target, {} if method in ("POST", "PUT") else None)
    error = json.loads(reply.body)["error"]
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert error["code"] == {404: "unsupported_endpoint", 405: "method_not_allowed"}[status]
    assert error.keys() == {"message", "type", "param", "code"}
    assert ("allow" in reply.headers) == (status == 405)


@pytest.mark.parametrize("host", ["evil.example", "", "localhost.evil.example:8000", "127.0.0.1.nip.io"])
@pytest.mark.parametrize(("method", "target"), [("GET", "/v1/models"), ("POST", "/v1/search"), ("GET", "/nothing")])
def test_r20_a_foreign_host_header_is_refused(server: Server, method: str, target: str, host: str) -> None:
    reply = send(server, method, target, {} if method == "POST" else None, Host=host)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (403, "unsupported_host")


def test_every_reply_has_an_id_and_its_time(server: Server) -> None:
    replies = [chat(server), chat(server, stream=True), chat(server, messages=[]), send(server, "GET", "/nothing")]
    assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)
    assert all(reply.headers["openai-processing-ms"].isdecimal() for reply in replies)


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/v1/index/status", "/v1/index/events", "/v1/openapi.json"])
def test_head_is_get_without_its_body(server: Server, path: str) -> None:
    reply = send(server, "HEAD", path)
    assert (reply.status, reply.body) == (200, b"")
    assert "content-type" in reply.headers


def test_a_connection_stays_open_after_errors(server: Server) -> None:
    host = urlsplit(server.url).netloc
    lines = [
        f"GET /v1/nothing HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"POST /v1/search HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}",
        f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
    ]
    with connect(server) as connection:
        connection.sendall("".join(lines).encode())
        result = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", result) == [b"404", b"415", b"200"]


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_invalid_http_is_refused_and_the_server_continues(server: Server, request_line: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(request_line)
        connection.shutdown(socket.SHUT_WR)
        result = b"".join(iter(lambda: connection.recv(65536), b""))
    assert result == b"" or result.startswith(b"HTTP/1.1 400")
    assert server.is_healthy()
