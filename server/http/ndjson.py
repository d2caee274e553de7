"""Streams of JSON messages, one a line, for Ollama's clients. An error is the last line of its stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import msgspec
from litestar.response import Stream

from server.http.sse import keep_alive_stream

MEDIA_TYPE = "application/x-ndjson"
_encode = msgspec.json.Encoder().encode


def line(message: msgspec.Struct) -> bytes:
    return _encode(message) + b"\n"


def line_stream(
    messages: AsyncIterator[msgspec.Struct],
    on_end: Callable[[], Awaitable[None]],
    keep_alive: msgspec.Struct,
    error_of: Callable[[Exception], msgspec.Struct],
) -> Stream:
    """Return a stream of messages, and of `keep_alive` in silence. `on_end` is awaited however the response ends."""
    return keep_alive_stream(_lines(messages, error_of), on_end, line(keep_alive), MEDIA_TYPE)


async def _lines(
    messages: AsyncIterator[msgspec.Struct], error_of: Callable[[Exception], msgspec.Struct]
) -> AsyncGenerator[bytes, None]:
    try:
        async for message in messages:
            yield line(message)
    except Exception as error:  # the status is sent already: only a line can report it
        yield line(error_of(error))
