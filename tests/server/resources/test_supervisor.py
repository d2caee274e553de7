"""The supervisor restarts a process that ends, and raises an error to every waiter if it never starts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from models.errors import ProcessFailed, ProcessUnavailable
from server.resources import supervisor
from server.resources.supervisor import Supervisor


class FakeProcess:
    """Ends on demand. `history` counts the processes that were opened and closed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait_for_exit(self) -> str:
        return await self._end

    def end(self, reason: str) -> None:
        self._end.set_result(reason)


class Starter:
    def __init__(self, failures: set[int] | None = None) -> None:
        self.opened: list[FakeProcess] = []
        self.num_closed = 0
        self._failures = failures or set()
        self._attempts = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[FakeProcess]:
        self._attempts += 1
        if self._attempts in self._failures:
            raise ProcessFailed("fake", "no luck")
        process = FakeProcess(self._attempts)
        self.opened.append(process)
        try:
            yield process
        finally:
            self.num_closed += 1


@contextlib.asynccontextmanager
async def running(starter: Starter) -> AsyncIterator[Supervisor[FakeProcess]]:
    supervised = Supervisor("fake", starter.open)
    task = asyncio.create_task(supervised.run())
    try:
        yield supervised
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert starter.num_closed == len(starter.opened)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_S", 0.001)


async def until_pid(supervised: Supervisor[FakeProcess], pid: int) -> None:
    async with asyncio.timeout(5):
        while not (supervised.is_ready and supervised.current().pid == pid):
            await asyncio.sleep(0.001)


def test_a_process_that_ends_is_restarted() -> None:
    async def scenario() -> None:
        starter = Starter(failures={2, 3})
        async with running(starter) as supervised:
            first = await supervised.first()
            assert supervised.current() is first
            first.end("killed")
            await until_pid(supervised, 4)  # the second and third attempts failed
            assert supervised.num_restarts == 3
            assert (await supervised.first()).pid == 1

    asyncio.run(scenario())


def test_between_restarts_the_error_says_when_to_retry() -> None:
    async def scenario() -> None:
        async with running(Starter()) as supervised:
            with pytest.raises(ProcessUnavailable) as starting:
                supervised.current()
            assert (starting.value.reason, starting.value.retry_after >= 1) == ("starting", True)
            (await supervised.first()).end("the process was ended by SIGKILL")
            await asyncio.sleep(0)
            with pytest.raises(ProcessUnavailable):
                while True:
                    supervised.current()
                    await asyncio.sleep(0)
            assert "restarting" in supervised.state

    asyncio.run(scenario())


def test_a_process_that_never_started_is_not_restarted() -> None:
    async def scenario() -> None:
        starter = Starter(failures={1})
        async with running(starter) as supervised:
            with pytest.raises(ProcessFailed):
                await supervised.first()
            assert (starter.opened, supervised.has_started, supervised.state) == ([], False, "fake: no luck")

    asyncio.run(scenario())
