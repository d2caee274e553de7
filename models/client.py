"""What a caller holds of a model process: requests go out with a number, replies come back under it.

Every waiter is answered: with its replies, or, when the process dies, with `ProcessFailed` at once.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from models.errors import ModelError, ProcessFailed
from models.ipc import Child, Refused, open_child

Reply = TypeVar("Reply")
Hello = TypeVar("Hello", bound=msgspec.Struct)


class ProcessClient(Generic[Hello, Reply]):
    """One running process. `hello` is what it said of itself when it was ready."""

    def __init__(
        self, child: Child[Any], hello: Hello, replies_of: Callable[[Any], Iterable[tuple[int, Reply]]]
    ) -> None:
        self.hello = hello
        self._child = child
        self._replies_of = replies_of
        self._ids = itertools.count(1)
        self._waiters: dict[int, asyncio.Queue[Reply | ModelError]] = {}
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def num_pending(self) -> int:
        return len(self._waiters)

    async def ended(self) -> str:
        """Waits until the process is gone; why it went."""
        return await asyncio.shield(self._ended)

    async def exchange(
        self, request: Callable[[int], msgspec.Struct], cancel: Callable[[int], msgspec.Struct] | None = None
    ) -> AsyncGenerator[Reply, None]:
        """Sends a request and yields its replies until the caller stops; then sends `cancel`, if given.

        The caller closes the generator (`contextlib.aclosing`). Raises `ProcessFailed` when the process dies.
        """
        id = next(self._ids)
        waiter = self._waiters[id] = asyncio.Queue()
        try:
            if self._ended.done():
                raise ProcessFailed(self._child.name, self._ended.result())
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
        """Delivers replies until the process ends, then fails whoever still waits. Run by `open_client`."""
        reason = "the server is stopping"
        try:
            async for frame in self._child.frames():
                if isinstance(frame, Refused):
                    reason = frame.reason
                    break
                for id, reply in self._replies_of(frame):
                    if waiter := self._waiters.get(id):
                        waiter.put_nowait(reply)
            else:
                reason = await self._child.exit_reason()
        finally:
            self._ended.set_result(reason)
            for waiter in self._waiters.values():
                waiter.put_nowait(ProcessFailed(self._child.name, reason))


@contextlib.asynccontextmanager
async def open_process(
    name: str,
    module: str,
    messages: Any,
    env: Mapping[str, str],
    load: msgspec.Struct,
    ready: type[Hello],
) -> AsyncIterator[tuple[Child[Any], Hello]]:
    """Starts a model process and waits until it says it is ready. `ProcessFailed` when it refuses or dies."""
    async with open_child(name, module, messages, env) as child:
        await child.send(load)
        hello = await child.receive()
        if isinstance(hello, Refused):
            raise ProcessFailed(name, hello.reason)
        assert isinstance(hello, ready)
        yield child, hello


@contextlib.asynccontextmanager
async def reading(client: ProcessClient[Any, Any]) -> AsyncIterator[None]:
    """Runs the client's reader for the body's duration."""
    reader = asyncio.create_task(client.read(), name="replies")
    try:
        yield
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
