"""Vector stores: uploaded files that are searched together, and watched folders as stores that are only read.

The repository is the truth. The indexer follows links to the attached files and says in the catalog what became of
them, so nothing here remembers how far a file is.
"""

import asyncio
import copy
import time
from collections.abc import Sequence
from pathlib import PurePosixPath

import msgspec

from index.params import Chunking
from index.types import FileSubset, Passage, SearchScope
from index.uploads import UPLOADS, UploadPath
from server.access.principal import Principal
from server.errors import FileBatchNotFound, FileNotInVectorStore, ReadOnlyVectorStore, VectorStoreExpired
from server.files.filters import Filter, passes
from server.files.folders import document_attributes, folder_file_id, folder_store
from server.files.names import is_searchable, upload_path
from server.files.service import FileService
from server.files.vector_store_files import (
    FileStatus,
    FileStatusCounts,
    VectorStoreFile,
    attached_file,
    count_documents,
    count_files,
    watched_file,
)
from server.storage.file_records import (
    Attachment,
    Attributes,
    FileBatchRecord,
    FileFailure,
    FileToAttach,
    VectorStoreRecord,
    new_id,
)

_MAX_CACHED_SCOPES = 32


class FileHit(msgspec.Struct, frozen=True, kw_only=True):
    """A passage that a search found, and the file of the vector store that it is from."""

    file_id: str
    filename: str
    attributes: Attributes
    passage: Passage


class VectorStoreService:
    """The stores that the principal of `files` may see. `default_chunking` is how files are chunked where a client
    leaves it open. Raises `FilesError`."""

    def __init__(self, files: FileService, default_chunking: Chunking) -> None:
        self.default_chunking = default_chunking
        self._files = files
        self._scopes: dict[tuple[tuple[str, ...], Filter | None], tuple[int, SearchScope]] = {}  # with their revisions

    def seen_by(self, principal: Principal) -> "VectorStoreService":
        narrowed = copy.copy(self)
        narrowed._files = self._files.seen_by(principal)
        return narrowed

    # Stores

    async def list_stores(self) -> list[VectorStoreRecord]:
        """Return the stores in the order in which they were made, or first seen."""
        await self._files.links.sweep()
        folders = [await self._folder_store(collection.name) for collection in self._files.folders.collections]
        stores = await self._files.repository.list_stores()
        return sorted([*folders, *stores], key=lambda store: store.created_at)

    async def get_store(self, id: str) -> VectorStoreRecord:
        """Raises `VectorStoreNotFound`."""
        await self._files.links.sweep()
        return await self._find(id)

    async def add_store(self, store: VectorStoreRecord, files: Sequence[FileToAttach] = ()) -> VectorStoreRecord:
        """Add a store with these files. Raises `StoredFileNotFound`, `ReadOnlyVectorStore` for a watched file."""
        checked_files = [await self._check_file(file) for file in files]
        async with self._files.links.exclusive():
            added = await self._files.repository.add_store(store, checked_files)
            await self._files.links.link(await self._files.repository.attachments(store_id=store.id))
        return added

    async def update_store(self, store: VectorStoreRecord) -> VectorStoreRecord:
        """Change name, description, expiry and metadata of a store, which counts as a use of it."""
        async with self._files.links.exclusive():
            await self._check_writable(store.id)
            changed = msgspec.structs.replace(store, last_active_at=int(time.time()))
            await self._files.repository.update_store(changed)
        return changed

    async def remove_store(self, id: str) -> None:
        """Remove a store. Its files stay, but leave the index unless another store has them."""
        async with self._files.links.exclusive():
            await self._check_writable(id, is_use=False)
            await self._files.links.unlink_unused(await self._files.repository.remove_store(id))

    async def count_files(self, store: VectorStoreRecord) -> FileStatusCounts:
        if store.collection is not None:
            return count_documents(await self._files.folders.count_documents(store.collection))
        return count_files(await self.list_files(store.id))

    # Files in a store

    async def list_files(self, store_id: str) -> list[VectorStoreFile]:
        """Return the files in the order in which they were attached."""
        store = await self.get_store(store_id)
        if store.collection is None:
            return await self._attached_files(await self._files.repository.attachments(store_id=store_id))
        documents = await self._files.folders.list_documents(store.collection)
        return [watched_file(store_id, document) for document in documents]

    async def get_file(self, store_id: str, file_id: str) -> VectorStoreFile:
        """Raises `VectorStoreNotFound`, `FileNotInVectorStore`."""
        store = await self.get_store(store_id)
        if store.collection is not None:
            document = await self._files.folders.find_document(file_id)
            if document is not None and document.collection == store.collection:
                return watched_file(store_id, document)
        attachments = await self._files.repository.attachments(store_id=store_id, file_id=file_id)
        for file in await self._attached_files(attachments):
            return file
        raise FileNotInVectorStore(file_id, store_id)

    async def read_texts(self, store_id: str, file_id: str) -> list[str]:
        """Return what is searched of a file, chunk by chunk."""
        file = await self.get_file(store_id, file_id)
        if file.document_id is None:
            return []
        return await asyncio.to_thread(self._files.catalog.read_texts, file.document_id)

    async def attach(self, store_id: str, files: Sequence[FileToAttach], batch: FileBatchRecord | None = None) -> None:
        """Attach files to a store; one that is attached takes over the new attributes and chunking."""
        async with self._files.links.exclusive():
            await self._check_writable(store_id)
            checked_files = [await self._check_file(file) for file in files]
            repository = self._files.repository
            before = [
                each for file in files for each in await repository.attachments(store_id=store_id, file_id=file.file_id)
            ]
            await repository.attach(store_id, checked_files, batch)
            for file in files:
                await self._files.links.link(await repository.attachments(store_id=store_id, file_id=file.file_id))
            await self._files.links.unlink_unused(before)

    async def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        async with self._files.links.exclusive():
            await self._check_writable(store_id)
            if not await self._files.repository.attachments(store_id=store_id, file_id=file_id):
                raise FileNotInVectorStore(file_id, store_id)
            await self._files.repository.set_attributes(store_id, file_id, attributes)
            self._files.links.revision += 1

    async def detach(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store; the file itself stays."""
        async with self._files.links.exclusive():
            await self._check_writable(store_id)
            detached = await self._files.repository.detach(store_id, file_id)
            if not detached:
                raise FileNotInVectorStore(file_id, store_id)
            await self._files.links.unlink_unused(detached)

    # Batches of files

    async def attach_batch(self, store_id: str, files: Sequence[FileToAttach]) -> FileBatchRecord:
        """Attach files together, as a batch."""
        batch = FileBatchRecord(id=new_id("vsfb", "_"), store_id=store_id, created_at=int(time.time()))
        await self.attach(store_id, files, batch)
        return batch

    async def get_batch(self, store_id: str, id: str) -> tuple[FileBatchRecord, list[VectorStoreFile]]:
        """Return a batch and its files. Raises `VectorStoreNotFound`, `FileBatchNotFound`."""
        await self._files.links.sweep()
        return await self._find_batch(store_id, id)

    async def cancel_batch(self, store_id: str, id: str) -> None:
        """Cancel the files of a batch that are not indexed yet."""
        async with self._files.links.exclusive():
            await self._check_writable(store_id)
            batch, files = await self._find_batch(store_id, id)
            undone = {file.file_id for file in files if file.status == FileStatus.IN_PROGRESS}
            attachments = await self._files.repository.attachments(store_id=store_id, batch_id=id)
            await self._files.repository.cancel_batch(batch, undone, int(time.time()))
            await self._files.links.unlink_unused([each for each in attachments if each.file.id in undone])

    # Search

    async def search_scope(self, store_ids: Sequence[str], filter: Filter | None = None) -> SearchScope:
        """Return where the index must search to find what is in these stores and passes, and nothing else.

        Counts as a use of the stores. Raises `VectorStoreNotFound`, `VectorStoreExpired`.
        """
        async with self._files.links.exclusive():
            stores = [await self._find(id) for id in store_ids]
            for store in stores:
                _check_expiry(store)
            uploaded = [store.id for store in stores if store.collection is None]
            await self._files.repository.touch_stores(uploaded, int(time.time()))
            if len(uploaded) < len(stores) and filter is not None:  # watched files come and go by themselves
                return await self._scope(stores, filter)
            key, revision = (tuple(store_ids), filter), self._files.links.revision
            cached_revision, scope = self._scopes.get(key, (None, SearchScope(None)))
            if cached_revision == revision:
                return scope
            scope = await self._scope(stores, filter)
            if len(self._scopes) >= _MAX_CACHED_SCOPES:
                self._scopes.clear()
            self._scopes[key] = (revision, scope)
            return scope

    async def _scope(self, stores: Sequence[VectorStoreRecord], filter: Filter | None) -> SearchScope:
        collections = {store.collection for store in stores if store.collection is not None}
        subsets: list[FileSubset] = []
        for collection in sorted(collections) if filter is not None else ():
            documents = await self._files.folders.list_documents(collection)
            paths = (document.path for document in documents if _passes(document_attributes(document), filter))
            subsets.append(FileSubset(collection, frozenset(paths)))
        uploaded = [store.id for store in stores if store.collection is None]
        if uploaded:
            attachments = [each for id in uploaded for each in await self._files.repository.attachments(store_id=id)]
            passing = (each for each in attachments if each.is_indexed and _passes(each.attributes, filter))
            subsets.append(FileSubset(UPLOADS, frozenset(str(upload_path(each)) for each in passing)))
            collections.add(UPLOADS)
        return SearchScope(sorted(collections), tuple(subsets))

    async def find_hits(self, store_ids: Sequence[str], passages: Sequence[Passage]) -> list[FileHit]:
        """Return the passages with their files, without those whose files have left the stores meanwhile."""
        paths: dict[str, set[str]] = {}
        for passage in passages:
            if passage.collection != UPLOADS:
                paths.setdefault(passage.collection, set()).add(passage.path)
        documents = {
            document.id: document
            for collection, its_paths in paths.items()
            for document in await self._files.folders.list_documents(collection, its_paths)
        }
        hits = []
        for passage in passages:
            file_id = passage_file_id(passage)
            if (document := documents.get(passage.document_id)) is not None:
                filename, attributes = PurePosixPath(document.path).name, document_attributes(document)
            elif (attachment := await self._find_attachment(store_ids, file_id)) is not None:
                filename, attributes = attachment.file.filename, attachment.attributes
            else:
                continue
            hits.append(FileHit(file_id=file_id, filename=filename, attributes=attributes, passage=passage))
        return hits

    # Helpers

    async def _find(self, id: str) -> VectorStoreRecord:
        collection = self._files.folders.find_collection(id)
        if collection is None:
            return await self._files.repository.get_store(id)
        return await self._folder_store(collection.name)

    async def _folder_store(self, name: str) -> VectorStoreRecord:
        collection = next(each for each in self._files.folders.collections if each.name == name)
        return folder_store(collection, await self._files.repository.first_seen_at(name, int(time.time())))

    async def _check_writable(self, id: str, *, is_use: bool = True) -> None:
        """Raises `VectorStoreNotFound`, `ReadOnlyVectorStore`; for a use of the store, `VectorStoreExpired` too."""
        store = await self._find(id)
        if store.collection is not None:
            raise ReadOnlyVectorStore(store.collection)
        if is_use:
            _check_expiry(store)
            await self._files.repository.touch_stores([id], int(time.time()))

    async def _check_file(self, file: FileToAttach) -> FileToAttach:
        """Return the file, with a failure if no reader can read it."""
        if (document := await self._files.folders.find_document(file.file_id)) is not None:
            raise ReadOnlyVectorStore(document.collection)
        filename = (await self._files.repository.get_file(file.file_id)).filename
        if is_searchable(filename):
            return file
        suffix = PurePosixPath(filename).suffix
        message = f"Files ending in {suffix!r} are not read." if suffix else "A file without an ending is not read."
        return msgspec.structs.replace(file, failure=FileFailure("unsupported_file", message))

    async def _find_batch(self, store_id: str, id: str) -> tuple[FileBatchRecord, list[VectorStoreFile]]:
        if (await self._find(store_id)).collection is not None:
            raise FileBatchNotFound(id)
        batch = await self._files.repository.get_batch(store_id, id)
        attachments = await self._files.repository.attachments(store_id=store_id, batch_id=id)
        return batch, await self._attached_files(attachments)

    async def _find_attachment(self, store_ids: Sequence[str], file_id: str) -> Attachment | None:
        by_store = {each.store_id: each for each in await self._files.repository.attachments(file_id=file_id)}
        return next((by_store[id] for id in store_ids if id in by_store), None)

    async def _attached_files(self, attachments: Sequence[Attachment]) -> list[VectorStoreFile]:
        """Return the attached files with what the index says of them."""
        paths = [str(upload_path(attachment)) for attachment in attachments]
        documents = await asyncio.to_thread(self._files.catalog.list_documents, UPLOADS, paths)
        by_path = {document.path: document for document in documents}
        return [attached_file(each, by_path.get(path)) for each, path in zip(attachments, paths, strict=True)]


def passage_file_id(passage: Passage) -> str:
    """Return the id of the file that a passage is from."""
    upload = UploadPath.parse(passage.path) if passage.collection == UPLOADS else None
    return folder_file_id(passage.document_id) if upload is None else upload.id


def _passes(attributes: Attributes, filter: Filter | None) -> bool:
    return filter is None or passes(attributes, filter)


def _check_expiry(store: VectorStoreRecord) -> None:
    if store.is_expired(time.time()):
        raise VectorStoreExpired(store.id)
