"""uvicorn's connections, with deadlines and a limit on headers: a defence against Slowloris.

uvicorn waits without limit for the end of a request and for a client that does not read its reply, and accepts headers
of any length, so a few hundred slow clients would hold every connection. Here a stalled connection is closed in time.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import AccessDenied
from server.http.problems import problem_of
from server.http.replies import problem_bytes

HEADERS_S = 10.0  # from a request's first byte, or a connection's beginning, to the end of its headers
BODY_S = 30.0  # between two pieces of a body
STALL_S = 30.0  # for which a client may read nothing of a reply that is ready
MAX_HEADERS = 32 * 1024  # bytes, with the address
MAX_CONNECTIONS = 1000


class Connection(HttpToolsProtocol):
    """A connection of uvicorn. The methods are callbacks of its parser and its transport."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._has_begun = False

    # Requests

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(HEADERS_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._expect_reading(None)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        self._header_bytes = 0
        self._expect(HEADERS_S)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if not self.transport.is_closing():
            self._expect(BODY_S)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            self._expect(BODY_S)
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            self._expect(None)
            super().on_message_complete()

    def _count(self, num_bytes: int) -> None:
        self._header_bytes += num_bytes
        if self._header_bytes > MAX_HEADERS and not self.transport.is_closing():
            self._refuse(431, f"The headers are longer than {MAX_HEADERS} bytes.", "headers_too_large")

    def _expect(self, seconds: float | None) -> None:
        """Set the deadline for the next bytes of the client; None removes it."""
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self.loop.call_later(seconds, self._give_up) if seconds is not None else None

    def _give_up(self) -> None:
        if self.flow.read_paused:  # by the server: the handler has not taken the body yet
            self._expect(BODY_S)
        elif not self._has_begun:  # no byte came: many clients open connections in advance
            self.transport.close()
        elif not self.transport.is_closing():
            self._refuse(408, "The request did not come to its end in time.", "request_timeout")

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Send an error unless a reply has started, and close the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(problem_bytes(problem_of(AccessDenied(status, message, code))))
        self.transport.close()

    # Replies

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading(STALL_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._expect_reading(None)

    def _expect_reading(self, seconds: float | None) -> None:
        if self._writing is not None:
            self._writing.cancel()
        self._writing = self.loop.call_later(seconds, self.transport.abort) if seconds is not None else None
