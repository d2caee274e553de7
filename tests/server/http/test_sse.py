"""Server-sent events: frames, comments during silence, and the end of a stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
import pytest

from models.errors import ProcessFailed
from server.http import sse


class Note(msgspec.Struct):
    text: str


class Source:
    """A source that yields the frames put into its queue."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.is_closed = False

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            while (frame := await self.queue.get()) is not None:
                yield frame
        finally:
            self.is_closed = True


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(sse, "_SILENCE_S", 0.01)
    return Source()


def test_comments_keep_a_silent_stream_alive_and_frames_keep_their_order(source: Source) -> None:
    async def read() -> list[bytes]:
        frames = []
        async for frame in sse.with_keep_alive(source.frames()):
            frames.append(frame)
            if frame == b": keep-alive\n\n" and len(frames) == 2:
                for each in (b"a", b"b", None):
                    source.queue.put_nowait(each)
        return frames

    assert asyncio.run(read()) == [b": keep-alive\n\n", b": keep-alive\n\n", b"a", b"b"]
    assert source.is_closed


@pytest.mark.parametrize("num_read", [0, 1, 3])
def test_closing_a_stream_closes_its_source(source: Source, num_read: int) -> None:
    async def leave() -> None:
        stream = sse.with_keep_alive(source.frames())
        async with contextlib.aclosing(stream):
            for _ in range(num_read):
                await anext(stream)

    asyncio.run(leave())
    assert source.is_closed == (num_read > 0)  # what was not begun needs no end


def test_cancelling_a_stream_closes_its_source(source: Source) -> None:
    async def read() -> None:
        async for _ in sse.with_keep_alive(source.frames()):
            pass

    async def cancel_twice() -> None:
        task = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.is_closed

    asyncio.run(cancel_twice())


def test_an_error_is_the_last_frame() -> None:
    async def messages() -> AsyncIterator[Note]:
        yield Note("a")
        raise ProcessFailed("engine", "it died")

    async def collect() -> list[bytes]:
        return [frame async for frame in sse.with_keep_alive(sse._events(messages(), sse.DONE))]

    first, error = asyncio.run(collect())
    assert first == b'data: {"text":"a"}\n\n'
    assert error.startswith(b'data: {"error":{"message":"The engine failed')
