"""Files that clients upload, and the vector stores they are searched in; watched folders are such stores, read-only."""

import asyncio
import contextlib
import copy
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from index.errors import StorageFull
from index.params import Chunking
from index.storage.base import Catalog
from index.storage.records import DocumentExcerpt, ExcerptRange
from index.storage.sqlite.database import storage_errors
from index.types import Collection, Passage, SearchScope
from index.uploads import UPLOADS, UploadPath
from server.access.principal import Principal
from server.errors import DiskFull, EmptyFile, StoredFileNotFound
from server.files.blobs import Contents
from server.files.filters import Filter
from server.files.holdings import Hit, Holdings
from server.files.incoming import Incoming
from server.files.records import Attributes, Batch, Counts, Kept, Member, Store, Wanted, new_id
from server.settings.params import FilesParams

_SWEEP_S = 1.0  # between two looks for what has expired

T = TypeVar("T")


class Library:
    """Owns the contents, the holdings and the one thread that touches them. A context manager.

    `collections`: the watched folders, as they are now. `auto`: how files are cut whose clients leave it open. Raises
    `DataFolderError` when it cannot be opened; everything else raises the `FilesError` that fits.
    """

    def __init__(
        self, data: Path, params: FilesParams, collections: Sequence[Collection], auto: Chunking, catalog: Catalog
    ) -> None:
        self.auto = auto
        self._catalog = catalog
        self._params = params
        self._contents = Contents(data)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="library")
        self._holdings = self._thread.submit(Holdings, data, self._contents, collections, catalog).result()
        self._sweeps = _Interval(_SWEEP_S)

    def __enter__(self) -> Self:
        self._thread.submit(self._holdings.clear_up).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._holdings.close).result()
        self._thread.shutdown()

    def seen_by(self, principal: Principal) -> "Library":
        """The same, as far as it may see."""
        seen = copy.copy(self)
        seen._holdings = self._holdings.seen_by(principal)
        return seen

    @property
    def uploads(self) -> Collection:
        """What the indexer is to follow beside the watched folders."""
        return Collection(UPLOADS, self._contents.uploads)

    # Files

    @contextlib.asynccontextmanager
    async def receiving(self) -> AsyncIterator[Incoming]:
        """Until it is left without having been kept."""
        incoming = Incoming(self._contents.new_incoming(), self._params.max_bytes)
        try:
            yield incoming
        finally:
            await asyncio.to_thread(incoming.close)

    async def keep(self, incoming: Incoming, filename: str, purpose: str, expires_at: int | None = None) -> Kept:
        """When this returns, the file is there after the power went.

        Raises `EmptyFile`, `FileQuotaExceeded`, `DiskFull`.
        """
        if not incoming.size:
            raise EmptyFile
        await asyncio.to_thread(incoming.finish)
        return await self._run(self._holdings.keep, incoming, filename, purpose, expires_at, self._params.total_bytes)

    async def write(self, pieces: Iterable[bytes], filename: str, purpose: str, expires_at: int | None = None) -> Kept:
        """A file of the server's own making."""
        async with self.receiving() as incoming:
            for piece in pieces:
                await incoming.write(piece)
            return await self.keep(incoming, filename, purpose, expires_at)

    async def file(self, id: str) -> Kept:
        """Also a watched one."""
        return await self._run(self._holdings.file, id)

    async def files(self, purpose: str | None = None) -> list[Kept]:
        """Those that were uploaded, in the order they came in."""
        return await self._run(self._holdings.files, purpose)

    async def open(self, id: str) -> BinaryIO:
        """The content, also of a watched file; the caller's to close."""
        return await self._run(self._holdings.open, id)

    async def remove_file(self, id: str) -> None:
        """From everywhere. Raises `ReadOnlyVectorStore` for a watched one."""
        await self._run(self._holdings.remove_file, id)

    # Vector stores

    async def stores(self) -> list[Store]:
        """In the order they were made, or first seen."""
        return await self._run(self._holdings.stores)

    async def store(self, id: str) -> Store:
        return await self._run(self._holdings.store, id)

    async def add_store(self, store: Store, wanted: Sequence[Wanted] = ()) -> Store:
        """With these files in it."""
        return await self._run(self._holdings.add_store, store, wanted)

    async def change_store(self, store: Store) -> Store:
        return await self._run(self._holdings.change_store, store)

    async def remove_store(self, id: str) -> None:
        """Its files stay, but not in the index, unless another store has them."""
        await self._run(self._holdings.remove_store, id)

    async def counts(self, store: Store) -> Counts:
        return await self._run(self._holdings.counts, store)

    async def members(self, store_id: str) -> list[Member]:
        """In the order they were put in."""
        return await self._run(self._holdings.members, store_id)

    async def member(self, store_id: str, file_id: str) -> Member:
        return await self._run(self._holdings.member, store_id, file_id)

    async def put(self, store_id: str, wanted: Sequence[Wanted]) -> None:
        """Files into a store; of those that are in it, attributes and chunking are these from now on."""
        await self._run(self._holdings.put, store_id, wanted, None)

    async def put_batch(self, store_id: str, wanted: Sequence[Wanted]) -> Batch:
        batch = Batch(new_id("vsfb").replace("-", "_"), store_id, int(time.time()))
        await self._run(self._holdings.put, store_id, wanted, batch)
        return batch

    async def batch(self, store_id: str, id: str) -> tuple[Batch, list[Member]]:
        return await self._run(self._holdings.batch, store_id, id)

    async def cancel(self, store_id: str, batch_id: str) -> None:
        """Those of its files that are not done yet are left out."""
        await self._run(self._holdings.cancel, store_id, batch_id)

    async def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        await self._run(self._holdings.set_attributes, store_id, file_id, attributes)

    async def take_out(self, store_id: str, file_id: str) -> None:
        await self._run(self._holdings.take_out, store_id, file_id)

    async def texts(self, store_id: str, file_id: str) -> list[str]:
        """What is searched of a file, chunk by chunk."""
        member = await self.member(store_id, file_id)
        if member.document_id is None:
            return []
        return await self._run(self._catalog.read_texts, member.document_id)

    async def document(self, document_id: int, range: ExcerptRange) -> DocumentExcerpt | None:
        """Return what the index holds of an uploaded file; None of one that is not there or not the principal's."""
        document = await asyncio.to_thread(self._catalog.read_document, document_id, range)
        upload = None if document is None or document.collection != UPLOADS else UploadPath.parse(document.path)
        if upload is None:
            return None
        with contextlib.suppress(StoredFileNotFound):
            await self.file(upload.id)
            return document
        return None

    # Search

    async def scope(self, store_ids: Sequence[str], filter: Filter | None = None) -> SearchScope:
        """Where the index must search so that it finds what is in these stores and passes, and nothing else. Counts as
        a use of them."""
        return await self._run(self._holdings.scope, tuple(store_ids), filter)

    async def hits(self, store_ids: Sequence[str], passages: Sequence[Passage]) -> list[Hit]:
        """What a search in that scope has found, by file; without what has left the stores meanwhile."""
        return await self._run(self._holdings.hits, store_ids, passages)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._swept, work, arguments)

    def _swept(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """The work, after what has expired was removed."""
        try:
            with storage_errors():
                if self._sweeps.is_due():
                    self._holdings.sweep()
                return work(*arguments)
        except StorageFull as error:
            raise DiskFull from error


class _Interval:
    """Something to be done at most once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
