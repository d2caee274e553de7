"""Taking up folders that were added or removed in the settings, while the server runs."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

from index.types import Collection
from models.errors import ModelError
from server.errors import SettingsError
from server.settings.settings import Settings

_log = logging.getLogger(__name__)

Reload = Callable[[], Awaitable[list[Collection]]]


class Reloading:
    """`reread` gives the settings as they are now; `follow` watches other folders from then on. Other settings stay as
    they were at the start."""

    def __init__(
        self,
        reread: Callable[[], Settings],
        follow: Callable[[list[Collection]], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self._reread, self._follow, self._say = reread, follow, say
        self._one_at_a_time = asyncio.Lock()

    async def now(self) -> list[Collection]:
        """Raises `SettingsError`, `ModelError`; then the folders stay as they are."""
        async with self._one_at_a_time:
            collections = (await asyncio.to_thread(self._reread)).collections()
            await self._follow(collections)
        self._say("Indexing " + (", ".join(f"{c.name} ({c.root})" for c in collections) or "no folder"))
        return collections

    @contextlib.asynccontextmanager
    async def on_hangup(self) -> AsyncIterator[None]:
        """Each SIGHUP, as long as this is open."""
        loop, is_wanted = asyncio.get_running_loop(), asyncio.Event()

        async def reload() -> None:
            while True:
                await is_wanted.wait()
                is_wanted.clear()
                try:
                    await self.now()
                except (SettingsError, ModelError) as error:
                    _log.error("the folders stay as they are: %s", error)

        loop.add_signal_handler(signal.SIGHUP, is_wanted.set)
        reloading = asyncio.create_task(reload(), name="reload")
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            reloading.cancel()
            await asyncio.gather(reloading, return_exceptions=True)
