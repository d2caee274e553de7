"""The running indexer, as a principal may watch and steer it."""

import copy
from typing import Self

from index.errors import CollectionNotFound
from index.ingest.commands import Pause, Rescan
from index.ingest.progress import Progress
from server.resources.indexer import IndexerClient
from server.resources.supervisor import Supervisor


class IndexerControl:
    """Commands raise `ProcessUnavailable` while no indexer runs, and `ProcessFailed` when it is gone."""

    def __init__(self, indexer: Supervisor[IndexerClient]) -> None:
        self._indexer = indexer
        self._collections: frozenset[str] | None = None  # None: all

    def seen_by(self, collections: frozenset[str] | None) -> Self:
        """Return the same indexer, of which only these collections (None: all) are shown and rescanned."""
        restricted = copy.copy(self)
        restricted._collections = collections
        return restricted

    @property
    def state(self) -> str:
        """Return "ready", or why the process is not."""
        return self._indexer.state

    @property
    def progress(self) -> Progress:
        progress = self._indexer.current().progress if self._indexer.is_ready else Progress()
        return progress.seen_by(self._collections)

    async def pause(self) -> None:
        """Stop all indexing, also after a restart."""
        await self._indexer.current().send(Pause(True))

    async def resume(self) -> None:
        await self._indexer.current().send(Pause(False))

    async def rescan(
        self, collection: str | None = None, accept_deletions: bool = False, path: str | None = None
    ) -> None:
        """Rescan one collection, or (None) every collection that may be seen. Raises `CollectionNotFound`."""
        if collection is None:
            names = None if self._collections is None else tuple(sorted(self._collections))
        elif self._collections is not None and collection not in self._collections:
            raise CollectionNotFound(collection, sorted(self._collections))
        else:
            names = (collection,)
        await self._indexer.current().send(Rescan(names, accept_deletions, path))
