"""What is done when nobody waits for it: background responses first, then the lines of batches.

Work is claimed from where it is kept, in SQLite, so that it goes on after a restart; what is finished is not done
again. All of it has the engine's lower priority, and a few pieces are under way at the same time, so that the engine
reads and writes them together.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, Self, TypeVar

from models.errors import ModelDoesNotFit, ProcessFailed, ProcessUnavailable, QueueFull

_log = logging.getLogger(__name__)

AT_ONCE = 4  # pieces of work
_AGAIN_S = 5.0  # after which somebody looks for what is due by the clock
_MOST_FAILURES = 3  # of the process under one piece of work; it may be what kills it

T = TypeVar("T")
Work = Coroutine[Any, Any, None]


class Source(Protocol):
    async def claim(self) -> Work | None:
        """The next piece of work, which nobody else is given; None when there is none now."""
        ...


class JobRunner:
    """A context manager; what is under way when it is left is left undone, and begins anew another time."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._claiming = asyncio.Lock()
        self._more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self) -> None:
        """There is more to do."""
        self._more.set()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(), name="job_runner") for _ in range(AT_ONCE)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            work = await self._claim()
            try:
                await work
            except Exception as error:  # it is tried again after the next start
                _log.error("work in the background failed: %s", type(error).__name__)
            self.wake()

    async def _claim(self) -> Work:
        async with self._claiming:
            while True:
                self._more.clear()
                for source in self._sources:
                    if (work := await source.claim()) is not None:
                        return work
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN_S):
                        await self._more.wait()


async def retry_when_available(attempt: Callable[[], Awaitable[T]]) -> T:
    """What it returns as soon as there is a process to do it, and room. Raises everything else."""
    num_failures = 0
    while True:
        try:
            return await attempt()
        except (QueueFull, ProcessUnavailable) as error:
            wait_s = float(error.retry_after)
        except ModelDoesNotFit as error:
            if error.retry_after is None:
                raise
            wait_s = float(error.retry_after)
        except ProcessFailed:
            num_failures += 1
            if num_failures == _MOST_FAILURES:
                raise
            wait_s = 1.0
        await asyncio.sleep(wait_s)
