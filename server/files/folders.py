"""Watched folders as vector stores that are only read, and their files as files with ids of their own."""

import asyncio
import copy
import hashlib
import re
from collections.abc import Iterable, Sequence

from index.storage.base import Catalog
from index.storage.records import DocumentCount, DocumentRecord
from index.types import Collection
from server.access.principal import UNRESTRICTED, Principal
from server.storage.file_records import Attributes, VectorStoreRecord

_FILE_ID = re.compile(r"file-0{8}([0-9a-f]{16})")
_MAX_DOCUMENT_ID = (1 << 63) - 1


def folder_store_id(collection: str) -> str:
    """Return the id of a watched folder's vector store, always the same for a name."""
    return f"vs_{hashlib.sha256(f'folder:{collection}'.encode()).hexdigest()[:24]}"


def folder_file_id(document_id: int) -> str:
    """Return the id of a watched file, the same as long as the file is where it is."""
    return f"file-{document_id:024x}"


def document_id_of(file_id: str) -> int | None:
    """Return the document id in a watched file's id; None for every other id."""
    match = _FILE_ID.fullmatch(file_id)
    number = int(match[1], 16) if match else 0
    return number if 0 < number <= _MAX_DOCUMENT_ID else None


def document_attributes(document: DocumentRecord) -> Attributes:
    """Return what filters may ask of a watched file. Its last change is in Unix seconds."""
    return {"path": document.path, "modified_at": document.mtime_ns // 1_000_000_000}


class VisibleFolders:
    """The watched folders that a principal may see, and their documents."""

    _principal = UNRESTRICTED

    def __init__(self, collections: Sequence[Collection], catalog: Catalog) -> None:
        self._collections = collections  # the owner changes the list when folders come and go
        self._catalog = catalog

    def seen_by(self, principal: Principal) -> "VisibleFolders":
        narrowed = copy.copy(self)
        narrowed._principal = principal
        narrowed._catalog = self._catalog.seen_by(principal.collections)
        return narrowed

    @property
    def collections(self) -> list[Collection]:
        return [collection for collection in self._collections if self._principal.may_see(collection.name)]

    def find_collection(self, store_id: str) -> Collection | None:
        """Return the folder that is shown as this vector store."""
        return next((each for each in self.collections if folder_store_id(each.name) == store_id), None)

    async def find_document(self, file_id: str) -> DocumentRecord | None:
        """Return the watched file with this id, None for an upload's id and for unknown ones."""
        document_id = document_id_of(file_id)
        if document_id is None:
            return None
        document = await asyncio.to_thread(self._catalog.find_document, document_id)
        visible = {collection.name for collection in self.collections}
        return document if document is not None and document.collection in visible else None

    async def list_documents(self, collection: str, paths: Iterable[str] | None = None) -> list[DocumentRecord]:
        return await asyncio.to_thread(self._catalog.list_documents, collection, paths)

    async def count_documents(self, collection: str) -> list[DocumentCount]:
        return await asyncio.to_thread(self._catalog.count_documents, collection)


def folder_store(collection: Collection, seen_at: int) -> VectorStoreRecord:
    """Return a watched folder as a vector store."""
    return VectorStoreRecord(
        id=folder_store_id(collection.name),
        name=collection.name,
        created_at=seen_at,
        last_active_at=seen_at,
        metadata={"path": str(collection.root)},
        collection=collection.name,
    )
