"""A caller's side of a model process: requests go out with a number, and replies come back under it.

Every waiter is answered: with its replies or, when the process ends, with `ProcessFailed` at once.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from models.errors import ModelError, ProcessFailed
from models.ipc import Child, ChildFailure, open_child

Reply = TypeVar("Reply")
Ready = TypeVar("Ready", bound=msgspec.Struct)


class ProcessClient(Generic[Ready, Reply]):
    """One running process. `ready` is the frame in which it said that it is ready, and what it has loaded."""

    def __init__(
        self, child: Child[Any], ready: Ready, replies_of: Callable[[Any], Iterable[tuple[int, Reply]]]
    ) -> None:
        self.ready = ready
        self._child = child
        self._replies_of = replies_of
        self._ids = itertools.count(1)
        self._waiters: dict[int, asyncio.Queue[Reply | ModelError]] = {}
        self._exit_reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def num_pending(self) -> int:
        return len(self._waiters)

    async def wait_for_exit(self) -> str:
        """Wait until the process has ended, and return why it ended."""
        return await asyncio.shield(self._exit_reason)

    async def exchange(
        self, request: Callable[[int], msgspec.Struct], cancel: Callable[[int], msgspec.Struct] | None = None
    ) -> AsyncGenerator[Reply, None]:
        """Send a request and yield its replies until the caller stops; then send `cancel`, if given.

        The caller closes the generator (`contextlib.aclosing`). Raises `ProcessFailed` when the process ends.
        """
        id = next(self._ids)
        waiter = self._waiters[id] = asyncio.Queue()
        try:
            if self._exit_reason.done():
                raise ProcessFailed(self._child.name, self._exit_reason.result())
            await self._child.send(request(id))
            while True:
                reply = await waiter.get()
                if isinstance(reply, ModelError):
                    raise reply
                yield reply
        finally:
            del self._waiters[id]
            if cancel is not None:
                self._child.send_soon(cancel(id))

    async def read(self) -> None:
        """Deliver replies until the process ends, then fail every waiter. Runs as the task of `deliver_replies`."""
        reason = "the server is stopping"
        try:
            async for frame in self._child.frames():
                if isinstance(frame, ChildFailure):
                    reason = frame.reason
                    break
                for id, reply in self._replies_of(frame):
                    if waiter := self._waiters.get(id):
                        waiter.put_nowait(reply)
            else:
                reason = await self._child.exit_reason()
        finally:
            self._exit_reason.set_result(reason)
            for waiter in self._waiters.values():
                waiter.put_nowait(ProcessFailed(self._child.name, reason))


@contextlib.asynccontextmanager
async def open_process(
    name: str,
    module: str,
    messages: Any,
    env: Mapping[str, str],
    load: msgspec.Struct,
    ready_type: type[Ready],
) -> AsyncIterator[tuple[Child[Any], Ready]]:
    """Start a model process and wait until it is ready. Raises `ProcessFailed` when it refuses or ends.

    `messages`: the union of the frames that the process sends. `load`: the first frame it is sent.
    """
    async with open_child(name, module, messages, env) as child:
        await child.send(load)
        ready = await child.receive()
        if isinstance(ready, ChildFailure):
            raise ProcessFailed(name, ready.reason)
        assert isinstance(ready, ready_type)
        yield child, ready


@contextlib.asynccontextmanager
async def deliver_replies(client: ProcessClient[Any, Any]) -> AsyncIterator[None]:
    """Run the client's reader for the duration of the body."""
    reader = asyncio.create_task(client.read(), name="replies")
    try:
        yield
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
