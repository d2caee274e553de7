"""Server-sent events as OpenAI's clients read them: `data:` lines, an error frame or `[DONE]` at the end."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

from server.exceptions import problem_of

_encode = msgspec.json.Encoder().encode
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def frame(message: msgspec.Struct) -> bytes:
    return b"data: " + _encode(message) + b"\n\n"


async def _events(messages: AsyncIterator[msgspec.Struct]) -> AsyncIterator[bytes]:
    """An error after the first byte is a frame, and then there is no `[DONE]`."""
    try:
        async for message in messages:
            yield frame(message)
    except Exception as error:  # the last place where the client can be told
        yield frame(problem_of(error).body)
    else:
        yield b"data: [DONE]\n\n"


def event_stream(messages: AsyncIterator[msgspec.Struct], on_end: Any) -> Stream:
    """`on_end` is awaited however the response ends, also when not one event was asked for."""
    return Stream(
        _events(messages), media_type="text/event-stream", headers=_HEADERS, background=BackgroundTask(on_end)
    )
