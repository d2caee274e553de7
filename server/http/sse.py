"""Server-sent events as OpenAI's clients read them: `data:` lines, an error frame or `[DONE]` at the end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import msgspec
from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

from server.http.problems import problem_of

_encode = msgspec.json.Encoder().encode
_SILENCE_S = 2.0  # after which a keep-alive comment is sent
_KEEP_ALIVE = b": keep-alive\n\n"  # not ": ping", which the client Continue takes for the end
DONE = b"data: [DONE]\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def frame(message: msgspec.Struct) -> bytes:
    return b"data: " + _encode(message) + b"\n\n"


async def with_keep_alive(
    frames: AsyncGenerator[bytes, None], keep_alive: bytes = _KEEP_ALIVE
) -> AsyncGenerator[bytes, None]:
    """Yield the frames, and `keep_alive` whenever none has come for a while, such as while a long prompt is read."""
    next_frame: asyncio.Task[bytes] | None = None
    try:
        while True:
            next_frame = asyncio.ensure_future(anext(frames))
            while not (await asyncio.wait({next_frame}, timeout=_SILENCE_S))[0]:
                yield keep_alive
            try:
                yield next_frame.result()
            except StopAsyncIteration:
                return
    finally:
        if next_frame is not None:
            await _cancel(next_frame)
        await frames.aclose()


async def _cancel(task: "asyncio.Task[bytes]") -> None:
    """Cancel the task and wait for its end, even if the waiter is cancelled meanwhile."""
    task.cancel()
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})


async def _events(messages: AsyncIterator[msgspec.Struct], last: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a frame for each message, then `last`; after an error its frame instead of `last`."""
    try:
        async for message in messages:
            yield frame(message)
    except Exception as error:  # the status is sent already: only a frame can report it
        yield frame(problem_of(error).body)
    else:
        if last:
            yield last


def event_stream(
    messages: AsyncIterator[msgspec.Struct], on_end: Callable[[], Awaitable[None]], last: bytes = DONE
) -> Stream:
    """Return a stream of events. `last` is the frame after the messages, empty for APIs without one.

    `on_end` is awaited however the response ends, also before the first event.
    """
    return keep_alive_stream(_events(messages, last), on_end)


def keep_alive_stream(
    frames: AsyncGenerator[bytes, None],
    on_end: Callable[[], Awaitable[None]],
    keep_alive: bytes = _KEEP_ALIVE,
    media_type: str = "text/event-stream",
) -> Stream:
    """Return a stream of frames in any API's format, with `keep_alive` as the frame without content.

    `on_end` is awaited however the response ends.
    """
    stream = with_keep_alive(frames, keep_alive)

    async def end() -> None:
        await stream.aclose()  # the client may have disconnected in the middle of it
        await on_end()

    return Stream(stream, media_type=media_type, headers=_HEADERS, background=BackgroundTask(end))
