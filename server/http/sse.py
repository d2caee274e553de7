"""Server-sent events as OpenAI's clients read them: `data:` lines, an error frame or `[DONE]` at the end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import msgspec
from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

from server.http.problems import problem_of

_encode = msgspec.json.Encoder().encode
_SILENCE_S = 2.0  # after which a comment says that the stream is alive
_KEEP_ALIVE = b": keep-alive\n\n"  # never ": ping", which Continue takes for the end
DONE = b"data: [DONE]\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def frame(message: msgspec.Struct) -> bytes:
    return b"data: " + _encode(message) + b"\n\n"


async def kept_alive(
    frames: AsyncGenerator[bytes, None], keep_alive: bytes = _KEEP_ALIVE
) -> AsyncGenerator[bytes, None]:
    """With a sign of life wherever nothing comes for a while: a long prompt is being read, or nothing happens."""
    waiting: asyncio.Task[bytes] | None = None
    try:
        while True:
            waiting = asyncio.ensure_future(anext(frames))
            while not (await asyncio.wait({waiting}, timeout=_SILENCE_S))[0]:
                yield keep_alive
            try:
                yield waiting.result()
            except StopAsyncIteration:
                return
    finally:
        if waiting is not None:
            await _ended(waiting)
        await frames.aclose()


async def _ended(task: "asyncio.Task[bytes]") -> None:
    """Cancels it and waits, however often the one who waits is itself cancelled meanwhile."""
    task.cancel()
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})


async def _events(messages: AsyncIterator[msgspec.Struct], last: bytes) -> AsyncGenerator[bytes, None]:
    """An error after the first byte is a frame, and then there is no `last`."""
    try:
        async for message in messages:
            yield frame(message)
    except Exception as error:  # the last place where the client can be told
        yield frame(problem_of(error).body)
    else:
        if last:
            yield last


def event_stream(
    messages: AsyncIterator[msgspec.Struct], on_end: Callable[[], Awaitable[None]], last: bytes = DONE
) -> Stream:
    """`on_end` is awaited however the response ends, also when not one event was asked for. `last` is the frame behind
    the messages, empty in dialects without one."""
    return kept_stream(_events(messages, last), on_end)


def kept_stream(
    frames: AsyncGenerator[bytes, None],
    on_end: Callable[[], Awaitable[None]],
    keep_alive: bytes = _KEEP_ALIVE,
    media_type: str = "text/event-stream",
) -> Stream:
    """Of frames that are whole events, in whatever dialect; `keep_alive` is one that says nothing. The same holds for
    `on_end`."""
    kept = kept_alive(frames, keep_alive)

    async def end() -> None:
        await kept.aclose()  # a client that left may have left it in the middle
        await on_end()

    return Stream(kept, media_type=media_type, headers=_HEADERS, background=BackgroundTask(end))
