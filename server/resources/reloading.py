"""Reloads the folders that the settings name, while the server runs."""

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


class FolderReloader:
    """Follows the folders of the settings. Other settings stay as they were at the start.

    `reread` returns the settings as they are now; `follow` watches these folders from then on; `say` prints a line.
    """

    def __init__(
        self,
        reread: Callable[[], Settings],
        follow: Callable[[list[Collection]], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self._reread, self._follow, self._say = reread, follow, say
        self._lock = asyncio.Lock()

    async def reload(self) -> list[Collection]:
        """Reload and return the folders. Raises `SettingsError`, `ModelError`; then the folders stay as they are."""
        async with self._lock:
            collections = (await asyncio.to_thread(self._reread)).collections()
            await self._follow(collections)
        self._say("Indexing " + (", ".join(f"{c.name} ({c.root})" for c in collections) or "no folder"))
        return collections

    @contextlib.asynccontextmanager
    async def reload_on_hangup(self) -> AsyncIterator[None]:
        """Reload at each SIGHUP for the duration of the body."""
        loop, is_requested = asyncio.get_running_loop(), asyncio.Event()

        async def reload_at_each() -> None:
            while True:
                await is_requested.wait()
                is_requested.clear()
                try:
                    await self.reload()
                except (SettingsError, ModelError) as error:
                    _log.error("the folders stay as they are: %s", error)

        loop.add_signal_handler(signal.SIGHUP, is_requested.set)
        reloading = asyncio.create_task(reload_at_each(), name="reload")
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            reloading.cancel()
            await asyncio.gather(reloading, return_exceptions=True)
