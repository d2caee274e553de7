"""Keeps one child process running: starts it, and restarts it when it ends, with a growing delay while it fails."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, Protocol, TypeVar

from models.errors import ModelError, ProcessUnavailable

_log = logging.getLogger(__name__)

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.25, 30.0
_STEADY_S = 60.0  # a process that ran this long starts from the first delay again


class Client(Protocol):
    @property
    def pid(self) -> int: ...
    async def wait_for_exit(self) -> str: ...


C = TypeVar("C", bound=Client)


class Supervisor(Generic[C]):
    """Supervises one process. `open` starts it and yields its client; `run` is one task for as long as it shall run."""

    def __init__(self, name: str, open: Callable[[], AbstractAsyncContextManager[C]]) -> None:
        self.name = name
        self._open = open
        self._client: C | None = None
        self._reason = "starting"
        self._delay_s = _FIRST_DELAY_S
        self._restart_at = 0.0
        self._first: asyncio.Future[C] = asyncio.get_running_loop().create_future()
        self.num_restarts = 0

    def current(self) -> C:
        """Return the client of the running process. Raises `ProcessUnavailable`, with an estimate in whole seconds."""
        if self._client is None:
            wait_s = max(self._restart_at - time.monotonic(), 0) + 1
            raise ProcessUnavailable(self.name, self._reason, retry_after=min(30, round(wait_s + 0.5)))
        return self._client

    @property
    def is_ready(self) -> bool:
        return self._client is not None

    @property
    def has_started(self) -> bool:
        """True once the process has been ready."""
        return self._first.done() and self._first.exception() is None

    def check_started(self) -> None:
        """Raise `ProcessUnavailable` until the process has been ready once."""
        if not self.has_started:
            self.current()

    @property
    def state(self) -> str:
        return "ready" if self.is_ready else self._reason

    async def first(self) -> C:
        """Wait for the first start, and return its client. Raises what prevented it; then there is no second."""
        return await asyncio.shield(self._first)

    def give_up(self, error: ModelError | OSError) -> None:
        """Raise this error to whoever waits for the first start, now or later. Idempotent."""
        if not self._first.done():
            self._reason = str(error)
            self._first.set_exception(error)
            self._first.exception()  # marks it as retrieved: asyncio does not log it if nobody waits

    async def run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                async with self._open() as client:
                    self._client = client
                    if not self._first.done():
                        self._first.set_result(client)
                    reason = await client.wait_for_exit()
                    self._client = None
            except (ModelError, OSError) as error:
                reason = str(error)
                if not self._first.done():
                    self.give_up(error)
                    return
            finally:
                self._client = None
            self._reason = f"restarting ({reason})"
            if time.monotonic() - started > _STEADY_S:
                self._delay_s = _FIRST_DELAY_S
            _log.warning("%s: %s; starting it again in %.2g s", self.name, reason, self._delay_s)
            self._restart_at = time.monotonic() + self._delay_s
            await asyncio.sleep(self._delay_s)
            self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
            self.num_restarts += 1
