"""The indexer process and the folders it watches, which may change while the server runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from index.ingest.commands import Follow
from index.params import IndexingParams
from index.storage.base import Catalog
from index.types import Collection
from models.encoder.messages import ModelFiles
from server.resources.indexer import IndexerClient, open_indexer
from server.resources.supervisor import Supervisor

_KNOWN_WITHIN_S = 5.0  # how long the indexer may take until the catalog lists a new folder
_POLL_S = 0.05


class WatchedFolders:
    """Owns the indexer's supervisor. `collections` is changed in place; `uploads` is watched too, always.

    `embedder_files` prepares the embedding model for this machine.
    """

    def __init__(
        self,
        data: Path,
        collections: list[Collection],
        uploads: Collection,
        catalog: Catalog,
        params: IndexingParams,
        embedder_files: Callable[[], Awaitable[ModelFiles]],
    ) -> None:
        self.indexer = Supervisor("indexer", self._open)
        self._data = data
        self._collections = collections
        self._uploads = uploads
        self._catalog = catalog
        self._params = params
        self._embedder_files = embedder_files

    async def follow(self, collections: list[Collection]) -> None:
        """Watch these folders from now on, and no others. Return when the catalog lists them, be it empty."""
        self._collections[:] = collections
        if not self.indexer.is_ready:
            return  # it reads the list when it starts
        await self.indexer.current().send(self._command())
        names = {collection.name for collection in collections}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KNOWN_WITHIN_S):
                while not names <= {status.name for status in await asyncio.to_thread(self._catalog.status)}:
                    await asyncio.sleep(_POLL_S)

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[IndexerClient]:
        embedder = await self._embedder_files()
        sent = list(self._collections)
        async with open_indexer(self._data, [*sent, self._uploads], embedder, self._params) as client:
            while sent != self._collections:  # they changed while the process started
                sent = list(self._collections)
                await client.send(self._command())
            yield client

    def _command(self) -> Follow:
        return Follow({collection.name: str(collection.root) for collection in [*self._collections, self._uploads]})
