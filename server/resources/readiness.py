"""Whether questions can be answered, found out by asking one, and not by what processes say of themselves."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from index.errors import IndexingError
from models.errors import ModelError

_log = logging.getLogger(__name__)

_LIMIT_S = 2.0
_KEPT_S = 5.0  # so that whoever looks often costs nothing
FAILURES = (ModelError, IndexingError, OSError, TimeoutError)


class Readiness:
    """`search` is a whole search, embedding included; `can_answer`, whether the processes that answer are there."""

    def __init__(
        self,
        can_answer: Callable[[], bool],
        search: Callable[[], Awaitable[object]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._can_answer = can_answer
        self._search = search
        self._clock = clock
        self._looking = asyncio.Lock()
        self._was_ready = False
        self._looked_at = -_KEPT_S

    @property
    def can_answer(self) -> bool:
        """Whether the processes that answer questions are there."""
        return self._can_answer()

    async def look(self) -> bool:
        """However many ask, one search every few seconds."""
        if not self._can_answer():
            return False
        async with self._looking:
            if self._clock() - self._looked_at >= _KEPT_S:
                self._was_ready = await self._found()
                self._looked_at = self._clock()
        return self._was_ready

    async def _found(self) -> bool:
        try:
            async with asyncio.timeout(_LIMIT_S):
                await self._search()
        except FAILURES as error:
            _log.warning("not ready, a search failed: %s", str(error) or type(error).__name__)
            return False
        return True
