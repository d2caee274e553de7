"""uvicorn's connections, with deadlines and a limit on headers: a defence against Slowloris.

uvicorn waits without limit for the end of a request and for a client that does not read its reply, and accepts headers
of any length, so a few hundred slow clients would hold every connection. Here a stalled connection is closed in time.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import AccessDenied
from server.http.problems import problem_of
from server.http.replies import problem_bytes

HEADERS_S = 10.0  # from a request's first byte, or the start of a connection, to the end of the headers
BODY_S = 30.0  # between two pieces of a body
STALL_S = 30.0  # for which a client may read none of a reply that is ready
MAX_HEADERS_BYTES = 32 * 1024  # with the URL
MAX_CONNECTIONS = 1000


class Deadline:
    """Calls back after the seconds that were set last, unless it is set again or removed before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self.remove()
        self._timer = self._loop.call_later(seconds, self._callback)

    def remove(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _RequestLimits(HttpToolsProtocol):
    """A connection of uvicorn with limits on requests. The methods are callbacks of its parser and its transport."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next_bytes = Deadline(self.loop, self._give_up)
        self._header_bytes = 0
        self._has_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._next_bytes.set(HEADERS_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_bytes.remove()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        self._header_bytes = 0
        self._next_bytes.set(HEADERS_S)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if not self.transport.is_closing():
            self._next_bytes.set(BODY_S)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            self._next_bytes.set(BODY_S)
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            self._next_bytes.remove()
            super().on_message_complete()

    def _count(self, num_bytes: int) -> None:
        self._header_bytes += num_bytes
        if self._header_bytes > MAX_HEADERS_BYTES and not self.transport.is_closing():
            message = f"The headers are longer than {MAX_HEADERS_BYTES} bytes; shorten them."
            _refuse(self, 431, message, "headers_too_large")

    def _give_up(self) -> None:
        if self.flow.read_paused:  # the handler has not read the body yet
            self._next_bytes.set(BODY_S)
        elif not self._has_begun:  # no byte came: clients open spare connections
            self.transport.close()
        elif not self.transport.is_closing():
            _refuse(self, 408, "The request did not arrive completely in time; send it again.", "request_timeout")


class Connection(_RequestLimits):
    """A connection with limits on requests, which is closed when the client does not read its reply."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reply_read = Deadline(self.loop, lambda: self.transport.abort())

    def connection_lost(self, exc: Exception | None) -> None:
        self._reply_read.remove()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reply_read.set(STALL_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reply_read.remove()


def _refuse(connection: HttpToolsProtocol, status: int, message: str, code: str) -> None:
    """Send an error unless a reply has started, and close the connection."""
    cycle = connection.cycle
    if cycle is None or cycle.response_complete or not cycle.response_started:
        connection.transport.write(problem_bytes(problem_of(AccessDenied(status, message, code))))
    connection.transport.close()
