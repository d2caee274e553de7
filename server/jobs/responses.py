"""Responses that are made in the background."""

import asyncio
import contextlib

import msgspec

from server.api.responses.reply import failed
from server.api.responses.service import made
from server.errors import ResponseNotFound
from server.http.problems import problem_of
from server.jobs.runner import Work, retry_when_available
from server.services import Services


class BackgroundResponses:
    """Where the backlog finds them. `is_over` lets others wait for one."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._claimed: dict[str, asyncio.Task[None] | None] = {}
        self._ended = asyncio.Condition()

    async def claim(self) -> Work | None:
        for id in await self._services.responses.unfinished():
            if id not in self._claimed:
                self._claimed[id] = None
                return self._make(id)
        return None

    async def _make(self, id: str) -> None:
        """In a task of its own, which `stop` ends."""
        task = self._claimed[id] = asyncio.create_task(self._made(id))
        try:
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
        finally:
            task.cancel()
            self._claimed.pop(id, None)
            await self.note_end()

    async def _made(self, id: str) -> None:
        store = self._services.responses
        try:
            stored = await store.get(id)
        except ResponseNotFound:
            return
        if stored.pending is None:
            return
        begun = msgspec.structs.replace(stored.response, status="in_progress")
        stored = msgspec.structs.replace(stored, response=begun)
        await store.change(begun, is_over=False)
        try:
            response = await retry_when_available(lambda: made(stored, self._services))
        except Exception as error:  # told to whoever asks for it
            response = failed(begun, problem_of(error))
        await store.change(response, is_over=True)

    async def stop(self, id: str) -> None:
        """What is kept of it is for the caller to change."""
        if (task := self._claimed.get(id)) is not None:
            task.cancel()
        await self.note_end()

    async def note_end(self) -> None:
        async with self._ended:
            self._ended.notify_all()

    async def until_over(self, id: str, services: Services) -> None:
        """Raises `ResponseNotFound`. `services`: those of whoever waits."""
        while (await services.responses.get(id)).pending is not None:
            async with self._ended:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):  # it may have ended between the two
                        await self._ended.wait()
