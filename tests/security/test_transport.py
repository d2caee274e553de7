"""Stalling clients on raw sockets: each is disconnected in time, and no other client waits for them."""

import asyncio
import contextlib
import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from server.http import transport
from server.http.transport import Connection

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


class App:
    """Replies once the body has arrived, after `waits_s`; with `streams`, with more than any buffer holds."""

    def __init__(self) -> None:
        self.waits_s = 0.0
        self.streams = False
        self.has_left = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(self.waits_s)
        headers = [] if self.streams else [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for _ in range(4000 if self.streams else 0):
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
                if (await asyncio.wait_for(asyncio.shield(_quickly(receive)), 5)) == "http.disconnect":
                    return
            await send({"type": "http.response.body", "body": b"" if self.streams else b"ok"})
        finally:
            self.has_left.set()


async def _quickly(receive: Any) -> str:
    with contextlib.suppress(TimeoutError):
        return str((await asyncio.wait_for(receive(), 0.0001))["type"])
    return ""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(transport, "HEADERS_S", 0.4)
    monkeypatch.setattr(transport, "BODY_S", 0.4)
    monkeypatch.setattr(transport, "STALL_S", 0.4)
    return App()


@pytest.fixture
def port(app: App) -> Iterator[int]:
    config = uvicorn.Config(app, http=Connection, lifespan="off", log_config=None, limit_concurrency=1000)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listener.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def read_to_end(client: socket.socket) -> bytes:
    """Return everything that is received until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            received += piece
    return received


def test_requests_on_one_connection_are_each_answered(port: int) -> None:
    with connect(port) as client:
        for request in (GET, POST + b"0123456789", GET):
            client.sendall(request)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_application_may_take_longer_than_the_limits_of_clients(app: App, port: int) -> None:
    app.waits_s = 1.0
    with connect(port) as client:
        client.sendall(POST + b"0123456789")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("incomplete", [b"GET / HT", GET[:-2], POST, POST + b"01234"])
def test_an_incomplete_request_times_out(port: int, incomplete: bytes) -> None:
    with connect(port) as client:
        started = time.monotonic()
        client.sendall(incomplete)
        received = read_to_end(client)
    assert 0.3 < time.monotonic() - started < 3
    assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


def test_an_unused_connection_is_closed_without_a_reply(port: int) -> None:
    with connect(port) as client:
        assert read_to_end(client) == b""


def test_trickling_headers_do_not_extend_the_time_limit(port: int) -> None:
    with connect(port) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        started = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\n")
        while time.monotonic() - started < 3:
            client.sendall(b"X-A: b\r\n")
            time.sleep(0.02)
    assert time.monotonic() - started < 2


def test_a_slow_body_is_accepted_while_it_continues(port: int) -> None:
    with connect(port) as client:
        client.sendall(POST)
        for _ in range(10):
            client.sendall(b"x")
            time.sleep(0.1)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 90) for i in range(400)),
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000 + b"\r\n",
    ],
    ids=["many", "a long address", "a long one"],
)
def test_oversized_headers_are_refused(port: int, request_head: bytes) -> None:
    with connect(port) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(request_head + b"\r\n")
        received = read_to_end(client)
    assert received.startswith(b"HTTP/1.1 431 ")


def test_a_client_that_does_not_read_its_reply_is_disconnected(app: App, port: int) -> None:
    app.streams = True
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(GET)
        assert app.has_left.wait(10), "the app still waits for its reply to be read"


def test_hundreds_of_slow_clients_do_not_delay_others(port: int) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(300)]
        for client in slow:
            client.sendall(b"GET / HTTP/1.1\r\nX-")
        times = []
        for _ in range(20):
            started = time.perf_counter()
            with connect(port) as client:
                client.sendall(GET)
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
            times.append(time.perf_counter() - started)
        assert statistics.median(times) < 0.1
        assert all(read_to_end(client).startswith(b"HTTP/1.1 408") for client in slow)
