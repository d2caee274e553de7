"""Checks whether questions can be answered, by a search instead of the states of the processes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from index.errors import IndexingError
from models.errors import ModelError

_log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_CACHED_S = 5.0  # so that frequent checks cost nothing
FAILURES = (ModelError, IndexingError, OSError, TimeoutError)


class Readiness:
    """`search` makes a whole search, embedding included. `can_answer` says whether the processes run that answer."""

    def __init__(
        self,
        can_answer: Callable[[], bool],
        search: Callable[[], Awaitable[object]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._can_answer = can_answer
        self._search = search
        self._clock = clock
        self._checking = asyncio.Lock()
        self._was_ready = False
        self._checked_at = -_CACHED_S

    @property
    def can_answer(self) -> bool:
        """True while the processes run that answer questions."""
        return self._can_answer()

    async def check(self) -> bool:
        """Return whether questions can be answered. Searches once in a few seconds, however often this is called."""
        if not self._can_answer():
            return False
        async with self._checking:
            if self._clock() - self._checked_at >= _CACHED_S:
                self._was_ready = await self._can_search()
                self._checked_at = self._clock()
        return self._was_ready

    async def _can_search(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._search()
        except FAILURES as error:
            _log.warning("not ready, a search failed: %s", str(error) or type(error).__name__)
            return False
        return True
