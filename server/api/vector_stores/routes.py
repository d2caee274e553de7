"""/v1/vector_stores: files that clients search together; and every watched folder, which is only read."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET

from index.types import Query
from server.access.keys import Role
from server.api.vector_stores.reply import batch_reply, file_reply, result_reply, score_hits, store_reply
from server.api.vector_stores.request import file_to_attach, files_to_attach, parse_chunking, parse_filter
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
from server.files.vector_store_files import VectorStoreFile, count_files
from server.files.vector_stores import VectorStoreService
from server.http.disconnect import cancel_on_disconnect
from server.http.paging import Order, page, page_reply
from server.services import Services
from server.storage.file_records import FileToAttach, VectorStoreRecord, new_id

_POLL = {"openai-poll-after-ms": "200"}  # a small file is found about half a second after it was attached
_DEFAULT_NUM_RESULTS = 10

Limit = Annotated[int, QueryParameter(ge=1, le=100)]
StatusFilter = Literal["in_progress", "completed", "failed", "cancelled"]


class VectorStoreController(Controller):
    path = "/v1/vector_stores"

    @post("/", status_code=200, operation_id="createVectorStore", opt={"role": Role.WRITE})
    async def create(
        self, services: NamedDependency[Services], data: JSONBody[CreateStore | None] = None
    ) -> VectorStore:
        fields, now = data or CreateStore(), int(time.time())
        chunking = parse_chunking(fields.chunking_strategy, "chunking_strategy")
        store = VectorStoreRecord(
            id=new_id("vs", "_"),
            name=fields.name or "",
            created_at=now,
            last_active_at=now,
            description=fields.description,
            expires_after_days=fields.expires_after.days if fields.expires_after else None,
            metadata=fields.metadata or {},
        )
        files = [FileToAttach(file_id=id, chunking=chunking) for id in fields.file_ids or ()]
        await services.vector_stores.add_store(store, files)
        return await _store_reply(services.vector_stores, store)

    @get("/", operation_id="listVectorStores")
    async def list_stores(
        self,
        services: NamedDependency[Services],
        limit: Limit = 20,
        order: FromQuery[Order] = "desc",
        after: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
    ) -> StorePage:
        """List vector stores, among them the watched folders."""
        stores = await services.vector_stores.list_stores()
        stores_page = page(stores, lambda store: store.id, limit, order, after, before)
        data = await asyncio.gather(*(_store_reply(services.vector_stores, store) for store in stores_page.items))
        return page_reply(StorePage, data, has_more=stores_page.has_more)

    @get("/{store_id:str}", operation_id="retrieveVectorStore", response_headers=_POLL)
    async def retrieve(self, store_id: FromPath[str], services: NamedDependency[Services]) -> VectorStore:
        store = await services.vector_stores.get_store(store_id)
        return await _store_reply(services.vector_stores, store)

    @post("/{store_id:str}", status_code=200, operation_id="modifyVectorStore", opt={"role": Role.WRITE})
    async def modify(
        self, store_id: FromPath[str], services: NamedDependency[Services], data: JSONBody[ChangeStore | None] = None
    ) -> VectorStore:
        fields, store = data or ChangeStore(), await services.vector_stores.get_store(store_id)
        days = store.expires_after_days
        if fields.expires_after is not UNSET:
            days = fields.expires_after.days if fields.expires_after else None
        changed = msgspec.structs.replace(
            store,
            name=store.name if fields.name is None else fields.name,
            description=store.description if fields.description is None else fields.description,
            metadata=store.metadata if fields.metadata is None else fields.metadata,
            expires_after_days=days,
        )
        return await _store_reply(services.vector_stores, await services.vector_stores.update_store(changed))

    @delete("/{store_id:str}", status_code=200, operation_id="deleteVectorStore", opt={"role": Role.WRITE})
    async def remove(self, store_id: FromPath[str], services: NamedDependency[Services]) -> StoreDeleted:
        """Delete a vector store; its files stay."""
        await services.vector_stores.remove_store(store_id)
        return StoreDeleted(store_id)

    @post("/{store_id:str}/search", status_code=200, operation_id="searchVectorStore", opt={"role": Role.READ})
    async def search(
        self,
        request: Request[Any, Any, Any],
        store_id: FromPath[str],
        data: JSONBody[StoreSearch],
        services: NamedDependency[Services],
    ) -> StoreResults:
        """Find the best passages for one question, which may be asked in several ways."""
        queries = [data.query] if isinstance(data.query, str) else data.query
        scope = await services.vector_stores.search_scope([store_id], parse_filter(data.filters))
        search = services.search.search(
            [Query(query) for query in queries], data.max_num_results or _DEFAULT_NUM_RESULTS, scope
        )
        hits = await services.vector_stores.find_hits([store_id], await cancel_on_disconnect(request, search))
        threshold = data.ranking_options.score_threshold if data.ranking_options else None
        base_url = str(request.base_url)
        return StoreResults(queries, [result_reply(hit, score, base_url) for hit, score in score_hits(hits, threshold)])


class VectorStoreFileController(Controller):
    path = "/v1/vector_stores/{store_id:str}/files"

    @post("/", status_code=200, operation_id="createVectorStoreFile", opt={"role": Role.WRITE})
    async def create(
        self, store_id: FromPath[str], data: JSONBody[AddFile], services: NamedDependency[Services]
    ) -> StoreFile:
        await services.vector_stores.attach(store_id, [file_to_attach(data)])
        return await _file_reply(services.vector_stores, store_id, data.file_id)

    @get("/", operation_id="listVectorStoreFiles")
    async def list_files(
        self,
        store_id: FromPath[str],
        services: NamedDependency[Services],
        filter: FromQuery[StatusFilter | None] = None,
        limit: Limit = 20,
        order: FromQuery[Order] = "desc",
        after: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
    ) -> StoreFilePage:
        files = await services.vector_stores.list_files(store_id)
        return _files_page(services.vector_stores, files, filter, limit, order, after, before)

    @get("/{file_id:str}", operation_id="retrieveVectorStoreFile", response_headers=_POLL)
    async def retrieve(
        self, store_id: FromPath[str], file_id: FromPath[str], services: NamedDependency[Services]
    ) -> StoreFile:
        return await _file_reply(services.vector_stores, store_id, file_id)

    @post("/{file_id:str}", status_code=200, operation_id="modifyVectorStoreFile", opt={"role": Role.WRITE})
    async def modify(
        self,
        store_id: FromPath[str],
        file_id: FromPath[str],
        data: JSONBody[ChangeFile],
        services: NamedDependency[Services],
    ) -> StoreFile:
        """Replace all attributes of a file."""
        if data.attributes is not None:
            await services.vector_stores.set_attributes(store_id, file_id, dict(data.attributes))
        return await _file_reply(services.vector_stores, store_id, file_id)

    @delete("/{file_id:str}", status_code=200, operation_id="deleteVectorStoreFile", opt={"role": Role.WRITE})
    async def remove(
        self, store_id: FromPath[str], file_id: FromPath[str], services: NamedDependency[Services]
    ) -> StoreFileDeleted:
        """Take a file out of the store; the file itself stays."""
        await services.vector_stores.detach(store_id, file_id)
        return StoreFileDeleted(file_id)

    @get("/{file_id:str}/content", operation_id="retrieveVectorStoreFileContent")
    async def content(
        self, store_id: FromPath[str], file_id: FromPath[str], services: NamedDependency[Services]
    ) -> ContentPage:
        """Return what is searched of a file, a part for each chunk."""
        return ContentPage([ContentPart(text) for text in await services.vector_stores.read_texts(store_id, file_id)])


class FileBatchController(Controller):
    path = "/v1/vector_stores/{store_id:str}/file_batches"

    @post("/", status_code=200, operation_id="createVectorStoreFileBatch", opt={"role": Role.WRITE})
    async def create(
        self, store_id: FromPath[str], data: JSONBody[BatchRequest], services: NamedDependency[Services]
    ) -> FileBatch:
        batch = await services.vector_stores.attach_batch(store_id, files_to_attach(data))
        return await _batch_reply(services.vector_stores, store_id, batch.id)

    @get("/{batch_id:str}", operation_id="retrieveVectorStoreFileBatch", response_headers=_POLL)
    async def retrieve(
        self, store_id: FromPath[str], batch_id: FromPath[str], services: NamedDependency[Services]
    ) -> FileBatch:
        return await _batch_reply(services.vector_stores, store_id, batch_id)

    @post(
        "/{batch_id:str}/cancel", status_code=200, operation_id="cancelVectorStoreFileBatch", opt={"role": Role.WRITE}
    )
    async def cancel(
        self, store_id: FromPath[str], batch_id: FromPath[str], services: NamedDependency[Services]
    ) -> FileBatch:
        """Cancel the files that are not indexed yet."""
        await services.vector_stores.cancel_batch(store_id, batch_id)
        return await _batch_reply(services.vector_stores, store_id, batch_id)

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
        _, files = await services.vector_stores.get_batch(store_id, batch_id)
        return _files_page(services.vector_stores, files, filter, limit, order, after, before)


async def _store_reply(stores: VectorStoreService, store: VectorStoreRecord) -> VectorStore:
    return store_reply(store, await stores.count_files(store))


async def _file_reply(stores: VectorStoreService, store_id: str, file_id: str) -> StoreFile:
    return file_reply(await stores.get_file(store_id, file_id), stores.default_chunking)


async def _batch_reply(stores: VectorStoreService, store_id: str, batch_id: str) -> FileBatch:
    batch, files = await stores.get_batch(store_id, batch_id)
    return batch_reply(batch, count_files(files))


def _files_page(
    stores: VectorStoreService,
    files: Sequence[VectorStoreFile],
    status: StatusFilter | None,
    limit: int,
    order: Order,
    after: str | None,
    before: str | None,
) -> StoreFilePage:
    with_status = [file for file in files if status in (None, file.status)]
    files_page = page(with_status, lambda file: file.file_id, limit, order, after, before)
    data = [file_reply(file, stores.default_chunking) for file in files_page.items]
    return page_reply(StoreFilePage, data, has_more=files_page.has_more)
