"""The middleware around every request: ids, processing time, retry headers, HEAD and 405."""

import re
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from litestar import Litestar, get
from litestar.response import Stream
from litestar.testing import TestClient

from models.errors import QueueFull
from server.http.error_body import ErrorBody, ErrorDetail
from server.http.problems import HANDLERS
from server.http.sse import event_stream
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.observability.middleware import RequestMiddleware
from server.storage.local.audit import AuditFolder

is_left = threading.Event()


@get("/text")
async def text() -> str:
    return "twelve bytes"


@get("/busy")
async def busy() -> None:
    raise QueueFull(3, retry_after=2)


@get("/broken")
async def broken() -> None:
    raise KeyError("x")


@get("/endless")
async def endless() -> Stream:
    async def letters() -> AsyncGenerator[ErrorBody, None]:
        while True:
            yield ErrorBody(ErrorDetail("again", "test"))

    async def leave() -> None:
        is_left.set()

    return event_stream(letters(), leave)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    handlers = [text, busy, broken, endless]
    app = Litestar(handlers, exception_handlers=HANDLERS, openapi_config=None, logging_config=None)
    app.asgi_handler = RequestMiddleware(app.asgi_handler, Metrics(), AuditLog(AuditFolder(Path()), "off"))
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(("path", "status"), [("/text", 200), ("/busy", 429), ("/broken", 500), ("/nowhere", 404)])
def test_every_reply_has_a_unique_id_and_its_processing_time(
    client: TestClient[Litestar], path: str, status: int
) -> None:
    replies = [client.get(path) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [status, status]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", id) for id in ids)
    assert len(set(ids)) == 2
    assert all(0 <= int(reply.headers["openai-processing-ms"]) < 60_000 for reply in replies)


def test_error_replies_say_whether_to_retry(client: TestClient[Litestar]) -> None:
    busy, broken = client.get("/busy").headers, client.get("/broken").headers
    assert (busy["retry-after"], "x-should-retry" in busy) == ("2", False)
    assert (broken["x-should-retry"], "retry-after" in broken) == ("false", False)


def test_head_returns_the_headers_of_get(client: TestClient[Litestar]) -> None:
    whole, head = client.get("/text"), client.head("/text")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == "12"
    assert client.head("/nowhere").status_code == 404


def test_head_does_not_wait_for_the_end_of_a_stream(client: TestClient[Litestar]) -> None:
    reply = client.head("/endless")
    assert (reply.status_code, reply.content) == (200, b"")
    assert is_left.wait(10)


def test_a_405_lists_the_allowed_methods(client: TestClient[Litestar]) -> None:
    reply = client.delete("/text")
    assert reply.status_code == 405
    assert set(reply.headers["allow"].split(", ")) == {"GET", "OPTIONS"}
    assert reply.json()["error"]["code"] == "method_not_allowed"
