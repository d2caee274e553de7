"""Uploaded files, as far as a principal may see them; and the files of watched folders, which are only read."""

import asyncio
import contextlib
import copy
import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from index.errors import UnreadableDocument
from index.ingest.files import open_file
from index.storage.base import Catalog
from index.storage.records import DocumentExcerpt, DocumentRecord, ExcerptRange
from index.types import Collection
from index.uploads import UPLOADS, UploadPath
from server.access.principal import Principal
from server.errors import EmptyFile, ReadOnlyVectorStore, StoredFileNotFound
from server.files.blobs import Blobs, IncomingFile
from server.files.folders import VisibleFolders
from server.files.links import UploadLinks
from server.settings.params import FilesParams
from server.storage.base import FileRepository
from server.storage.file_records import StoredFile, new_id


class FileService:
    """The rules of files: who sees which, their limits and expiry, and that watched files are only read.

    `collections` is the list of watched folders, which its owner keeps up to date. `catalog` is not narrowed: it has
    uploaded files too. Methods raise a `FilesError`, or a `StorageError`.
    """

    def __init__(
        self,
        repository: FileRepository,
        blobs: Blobs,
        catalog: Catalog,
        collections: Sequence[Collection],
        params: FilesParams,
    ) -> None:
        self.repository = repository
        self.catalog = catalog
        self.folders = VisibleFolders(collections, catalog)
        self.links = UploadLinks(repository, blobs)
        self._blobs = blobs
        self._params = params

    def seen_by(self, principal: Principal) -> "FileService":
        narrowed = copy.copy(self)
        narrowed.repository = self.repository.seen_by(principal)
        narrowed.folders = self.folders.seen_by(principal)
        return narrowed

    @property
    def uploads(self) -> Collection:
        """The collection that the indexer follows beside the watched folders."""
        return Collection(UPLOADS, self._blobs.uploads_folder)

    async def reconcile(self) -> None:
        """Make the disk agree with the repository, before anything else is done."""
        await self.links.reconcile()

    def receive(self) -> AbstractAsyncContextManager[IncomingFile]:
        """Begin a file, which is deleted at the end unless it was added."""
        return self._blobs.receive(self._params.max_bytes)

    async def add_file(
        self, incoming: IncomingFile, filename: str, purpose: str, expires_at: int | None = None
    ) -> StoredFile:
        """Keep what was received as a file. When this returns, it survives a power failure.

        Raises `EmptyFile`, `FileQuotaExceeded`, `StorageFull`.
        """
        if not incoming.size:
            raise EmptyFile
        file = StoredFile(
            id=new_id("file"),
            size=incoming.size,
            created_at=int(time.time()),
            filename=filename,
            purpose=purpose,
            expires_at=expires_at,
        )
        await self.links.sweep()
        await self._blobs.put(incoming, file.id)
        try:
            return await self.repository.add_file(file, self._params.total_bytes)
        except BaseException:
            await self._blobs.remove(file.id)
            raise

    async def get_file(self, id: str) -> StoredFile:
        """Return an uploaded or a watched file. Raises `StoredFileNotFound`."""
        await self.links.sweep()
        document = await self.folders.find_document(id)
        return await self.repository.get_file(id) if document is None else _stored_file(id, document)

    async def list_files(self, purpose: str | None = None) -> list[StoredFile]:
        """Return the uploaded files in the order they were added; those for `purpose` only, where given."""
        await self.links.sweep()
        return await self.repository.list_files(purpose)

    async def open_file(self, id: str) -> BinaryIO:
        """Open an uploaded or a watched file for reading; the caller closes it. Raises `StoredFileNotFound`."""
        await self.links.sweep()
        document = await self.folders.find_document(id)
        if document is None:
            return await self._blobs.open((await self.repository.get_file(id)).id)
        try:
            return await asyncio.to_thread(_open_document, document)
        except (OSError, UnreadableDocument):
            raise StoredFileNotFound(id) from None

    async def remove_file(self, id: str) -> None:
        """Remove an uploaded file, also from all vector stores. Raises `StoredFileNotFound`, `ReadOnlyVectorStore`."""
        if (document := await self.folders.find_document(id)) is not None:
            raise ReadOnlyVectorStore(document.collection)
        async with self.links.exclusive():
            await self.repository.get_file(id)
            await self.links.remove_file(id)

    async def read_document(self, document_id: int, range: ExcerptRange) -> DocumentExcerpt | None:
        """Return what the index holds of an uploaded file; None when it is not there, or not the principal's."""
        document = await asyncio.to_thread(self.catalog.read_document, document_id, range)
        upload = None if document is None or document.collection != UPLOADS else UploadPath.parse(document.path)
        if upload is None:
            return None
        with contextlib.suppress(StoredFileNotFound):
            await self.get_file(upload.id)
            return document
        return None


def _open_document(document: DocumentRecord) -> BinaryIO:
    return os.fdopen(open_file(Path(document.root), document.path), "rb")


def _stored_file(id: str, document: DocumentRecord) -> StoredFile:
    return StoredFile(
        id=id,
        size=max(document.size, 0),
        created_at=document.mtime_ns // 1_000_000_000,
        filename=PurePosixPath(document.path).name,
        purpose="assistants",
    )
