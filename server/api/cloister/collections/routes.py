"""The routes of collections and their documents."""

import asyncio
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from index.errors import CollectionNotFound
from index.storage.records import DocumentRecord, DocumentState
from server.api.cloister.collections.wire import CollectionList, CollectionObject, DocumentObject, DocumentPage
from server.http.links import document_url
from server.services import Services


class CollectionController(Controller):
    @get("/v1/collections", operation_id="listCollections")
    async def collections(self, services: NamedDependency[Services]) -> CollectionList:
        statuses = await asyncio.to_thread(services.catalog.status)
        return CollectionList([CollectionObject(s.name, s.root, s.documents, s.chunks) for s in statuses])

    @get("/v1/collections/{name:str}/documents", operation_id="listDocuments")
    async def documents(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        document_state: Annotated[DocumentState | None, QueryParameter(name="state")] = None,
        contains: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
        after: FromQuery[str] = "",
    ) -> DocumentPage:
        """List a collection's files by path, starting behind the path `after`.

        `state` and `contains` leave out files in other states, and files whose paths do not contain the text.
        """
        check_collection(name, services)
        catalog, base_url = services.catalog, str(request.base_url)
        documents = await asyncio.to_thread(
            catalog.list_documents_by_path, name, limit + 1, after, document_state, contains
        )
        page = documents[:limit]
        num_chunks = await asyncio.to_thread(catalog.count_chunks, [document.id for document in page])
        objects = [_document_object(each, num_chunks.get(each.id, 0), base_url) for each in page]
        return DocumentPage(objects, len(documents) > limit)


def check_collection(name: str, services: Services) -> None:
    """Check that the principal may see a collection of this name. Raises `CollectionNotFound`."""
    known = [collection.name for collection in services.collections]
    if name not in known:
        raise CollectionNotFound(name, known)


def _document_object(document: DocumentRecord, num_chunks: int, base_url: str) -> DocumentObject:
    return DocumentObject(
        id=document.id,
        path=document.path,
        bytes=max(document.size, 0),
        modified_at=document.mtime_ns / 1_000_000_000,
        state=document.state,
        reason=document.error if document.state == "failed" else None,
        note=document.note,
        chunks=num_chunks,
        url=document_url(base_url, document.id),
    )
