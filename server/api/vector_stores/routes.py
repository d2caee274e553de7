"""/v1/vector_stores: files to search, put together by clients; and every watched folder, read-only."""

import asyncio
import time
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET

from index.types import Query
from server.api.vector_stores.reply import (
    batch_reply,
    chunking_of,
    file_reply,
    filter_of,
    result_reply,
    scored,
    store_reply,
    wanted_file,
    wanted_files,
)
from server.api.vector_stores.wire import (
    AddFile,
    BatchRequest,
    ChangeFile,
    ChangeStore,
    ContentPage,
    ContentPart,
    CreateStore,
    FileBatch,
    StoreDeleted,
    StoreFile,
    StoreFileDeleted,
    StoreFilePage,
    StorePage,
    StoreResults,
    StoreSearch,
    VectorStore,
)
from server.files.records import Member, Store, Wanted, counted, new_id
from server.files.service import Library
from server.http.disconnect import unless_gone
from server.http.paging import Order, page
from server.services import Services

_POLL = {"openai-poll-after-ms": "200"}  # a small file is found about half a second after it was put in
_RESULTS = 10  # unless it is said

Limit = Annotated[int, QueryParameter(ge=1, le=100)]
StatusFilter = Literal["in_progress", "completed", "failed", "cancelled"]


class VectorStoreController(Controller):
    path = "/v1/vector_stores"

    @post("/", status_code=200, operation_id="createVectorStore")
    async def create(
        self, services: NamedDependency[Services], data: JSONBody[CreateStore | None] = None
    ) -> VectorStore:
        asked, now = data or CreateStore(), int(time.time())
        chunking = chunking_of(asked.chunking_strategy, "chunking_strategy")
        store = Store(
            id=new_id("vs").replace("-", "_"),
            name=asked.name or "",
            created_at=now,
            last_active_at=now,
            description=asked.description,
            days=asked.expires_after.days if asked.expires_after else None,
            metadata=asked.metadata or {},
        )
        await services.library.add_store(store, [Wanted(id, {}, chunking) for id in asked.file_ids or ()])
        return await _reply(services.library, store)

    @get("/", operation_id="listVectorStores")
    async def listing(
        self,
        services: NamedDependency[Services],
        limit: Limit = 20,
        order: FromQuery[Order] = "desc",
        after: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
    ) -> StorePage:
        """Watched folders too."""
        stores = await services.library.stores()
        found = page(stores, lambda store: store.id, limit, order, after, before)
        data = await asyncio.gather(*(_reply(services.library, store) for store in found.items))
        return StorePage(data, data[0].id if data else None, data[-1].id if data else None, found.has_more)

    @get("/{store_id:str}", operation_id="retrieveVectorStore", response_headers=_POLL)
    async def retrieve(self, store_id: FromPath[str], services: NamedDependency[Services]) -> VectorStore:
        store = await services.library.store(store_id)
        return await _reply(services.library, store)

    @post("/{store_id:str}", status_code=200, operation_id="modifyVectorStore")
    async def modify(
        self, store_id: FromPath[str], services: NamedDependency[Services], data: JSONBody[ChangeStore | None] = None
    ) -> VectorStore:
        asked, store = data or ChangeStore(), await services.library.store(store_id)
        days = store.days
        if asked.expires_after is not UNSET:
            days = asked.expires_after.days if asked.expires_after else None
        changed = msgspec.structs.replace(
            store,
            name=store.name if asked.name is None else asked.name,
            description=store.description if asked.description is None else asked.description,
            metadata=store.metadata if asked.metadata is None else asked.metadata,
            days=days,
        )
        return await _reply(services.library, await services.library.change_store(changed))

    @delete("/{store_id:str}", status_code=200, operation_id="deleteVectorStore")
    async def remove(self, store_id: FromPath[str], services: NamedDependency[Services]) -> StoreDeleted:
        """The files themselves stay."""
        await services.library.remove_store(store_id)
        return StoreDeleted(store_id)

    @post("/{store_id:str}/search", status_code=200, operation_id="searchVectorStore")
    async def search(
        self,
        request: Request[Any, Any, Any],
        store_id: FromPath[str],
        data: JSONBody[StoreSearch],
        services: NamedDependency[Services],
    ) -> StoreResults:
        """The best passages for one question, put in one way or in several."""
        queries = [data.query] if isinstance(data.query, str) else data.query
        scope = await services.library.scope([store_id], filter_of(data.filters))
        search = services.search.search([Query(query) for query in queries], data.max_num_results or _RESULTS, scope)
        hits = await services.library.hits([store_id], await unless_gone(request, search))
        threshold = data.ranking_options.score_threshold if data.ranking_options else None
        base_url = str(request.base_url)
        return StoreResults(queries, [result_reply(hit, score, base_url) for hit, score in scored(hits, threshold)])


class VectorStoreFileController(Controller):
    path = "/v1/vector_stores/{store_id:str}/files"

    @post("/", status_code=200, operation_id="createVectorStoreFile")
    async def create(
        self, store_id: FromPath[str], data: JSONBody[AddFile], services: NamedDependency[Services]
    ) -> StoreFile:
        await services.library.put(store_id, [wanted_file(data)])
        return await _file(services.library, store_id, data.file_id)

    @get("/", operation_id="listVectorStoreFiles")
    async def listing(
        self,
        store_id: FromPath[str],
        services: NamedDependency[Services],
        filter: FromQuery[StatusFilter | None] = None,
        limit: Limit = 20,
        order: FromQuery[Order] = "desc",
        after: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
    ) -> StoreFilePage:
        members = await services.library.members(store_id)
        return _page(services.library, members, filter, limit, order, after, before)

    @get("/{file_id:str}", operation_id="retrieveVectorStoreFile", response_headers=_POLL)
    async def retrieve(
        self, store_id: FromPath[str], file_id: FromPath[str], services: NamedDependency[Services]
    ) -> StoreFile:
        return await _file(services.library, store_id, file_id)

    @post("/{file_id:str}", status_code=200, operation_id="modifyVectorStoreFile")
    async def modify(
        self,
        store_id: FromPath[str],
        file_id: FromPath[str],
        data: JSONBody[ChangeFile],
        services: NamedDependency[Services],
    ) -> StoreFile:
        """All attributes are these from now on."""
        if data.attributes is not None:
            await services.library.set_attributes(store_id, file_id, dict(data.attributes))
        return await _file(services.library, store_id, file_id)

    @delete("/{file_id:str}", status_code=200, operation_id="deleteVectorStoreFile")
    async def remove(
        self, store_id: FromPath[str], file_id: FromPath[str], services: NamedDependency[Services]
    ) -> StoreFileDeleted:
        """From the store; the file itself stays."""
        await services.library.take_out(store_id, file_id)
        return StoreFileDeleted(file_id)

    @get("/{file_id:str}/content", operation_id="retrieveVectorStoreFileContent")
    async def content(
        self, store_id: FromPath[str], file_id: FromPath[str], services: NamedDependency[Services]
    ) -> ContentPage:
        """What is searched of it, a part for each chunk."""
        return ContentPage([ContentPart(text) for text in await services.library.texts(store_id, file_id)])


class FileBatchController(Controller):
    path = "/v1/vector_stores/{store_id:str}/file_batches"

    @post("/", status_code=200, operation_id="createVectorStoreFileBatch")
    async def create(
        self, store_id: FromPath[str], data: JSONBody[BatchRequest], services: NamedDependency[Services]
    ) -> FileBatch:
        batch = await services.library.put_batch(store_id, wanted_files(data))
        return await _batch(services.library, store_id, batch.id)

    @get("/{batch_id:str}", operation_id="retrieveVectorStoreFileBatch", response_headers=_POLL)
    async def retrieve(
        self, store_id: FromPath[str], batch_id: FromPath[str], services: NamedDependency[Services]
    ) -> FileBatch:
        return await _batch(services.library, store_id, batch_id)

    @post("/{batch_id:str}/cancel", status_code=200, operation_id="cancelVectorStoreFileBatch")
    async def cancel(
        self, store_id: FromPath[str], batch_id: FromPath[str], services: NamedDependency[Services]
    ) -> FileBatch:
        """What is done stays."""
        await services.library.cancel(store_id, batch_id)
        return await _batch(services.library, store_id, batch_id)

    @get("/{batch_id:str}/files", operation_id="listFilesInVectorStoreBatch")
    async def files(
        self,
        store_id: FromPath[str],
        batch_id: FromPath[str],
        services: NamedDependency[Services],
        filter: FromQuery[StatusFilter | None] = None,
        limit: Limit = 20,
        order: FromQuery[Order] = "desc",
        after: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
    ) -> StoreFilePage:
        _, members = await services.library.batch(store_id, batch_id)
        return _page(services.library, members, filter, limit, order, after, before)


async def _reply(library: Library, store: Store) -> VectorStore:
    return store_reply(store, await library.counts(store))


async def _file(library: Library, store_id: str, file_id: str) -> StoreFile:
    return file_reply(await library.member(store_id, file_id), library.auto)


async def _batch(library: Library, store_id: str, batch_id: str) -> FileBatch:
    batch, members = await library.batch(store_id, batch_id)
    return batch_reply(batch, counted(members))


def _page(
    library: Library,
    members: list[Member],
    status: StatusFilter | None,
    limit: int,
    order: Order,
    after: str | None,
    before: str | None,
) -> StoreFilePage:
    wanted = [member for member in members if status in (None, member.status)]
    found = page(wanted, lambda member: member.file_id, limit, order, after, before)
    data = [file_reply(member, library.auto) for member in found.items]
    return StoreFilePage(data, data[0].id if data else None, data[-1].id if data else None, found.has_more)
