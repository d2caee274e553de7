"""The state of the index, its steering, its collections, and POST /v1/search."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from index.errors import CollectionNotFound
from index.ingest.progress import Progress
from index.search.explanation import Explanation
from index.storage.records import DocumentRecord, DocumentState
from index.types import Passage, Query, SearchScope
from models.llm.chat.messages import ChatMessage
from server.api.cloister.wire import (
    CollectionCard,
    CollectionList,
    CurrentFile,
    DocumentCard,
    DocumentPage,
    EmbedderSwitch,
    ExpectedFile,
    ExplainedFile,
    IndexStatus,
    Reloaded,
    RescanRequest,
    SearchExplanation,
    SearchRequest,
    SearchResult,
    SearchResults,
)
from server.api.shared.passage import wire_passage
from server.errors import RequestError
from server.generation.generate import make_grounding_request
from server.generation.request import GenerationRequest
from server.http.disconnect import unless_gone
from server.http.links import document_url
from server.http.sse import event_stream
from server.rag.explain import explain_file
from server.rag.options import RagOptions
from server.rag.relevance import FLOOR
from server.resources.reloading import Reload
from server.services import Services

_EVENT_S = 0.5  # at least, between two looks at the index for a listener


class IndexController(Controller):
    @get("/v1/index/status", operation_id="indexStatus")
    async def status(self, services: NamedDependency[Services]) -> IndexStatus:
        return await _status(services)

    @get("/v1/index/events", operation_id="indexEvents")
    async def events(self, services: NamedDependency[Services]) -> Stream:
        """The status, and again whenever it has changed, until the client leaves."""
        statuses = _statuses(services)
        return event_stream(statuses, statuses.aclose)

    @post("/v1/index/pause", status_code=200, operation_id="pauseIndexing")
    async def pause(self, services: NamedDependency[Services]) -> IndexStatus:
        """Also after a restart of the server."""
        await services.indexer_control.pause()
        return await _status(services)

    @post("/v1/index/resume", status_code=200, operation_id="resumeIndexing")
    async def resume(self, services: NamedDependency[Services]) -> IndexStatus:
        await services.indexer_control.resume()
        return await _status(services)

    @post("/v1/index/rescan", status_code=202, operation_id="rescan")
    async def rescan(
        self, services: NamedDependency[Services], data: JSONBody[RescanRequest | None] = None
    ) -> IndexStatus:
        """Compares folders with the index now, and tries again what could not be read."""
        wanted = data or RescanRequest()
        if wanted.collection is not None:
            _check_collection(wanted.collection, services)
        elif wanted.path is not None:
            raise RequestError("Say which collection the path is in.", "collection", "missing_required_parameter")
        await services.indexer_control.rescan(wanted.collection, wanted.accept_deletions, wanted.path)
        return await _status(services)

    @post("/v1/index/reload", status_code=200, operation_id="reloadCollections")
    async def reload(self, reload_folders: NamedDependency[Reload]) -> Reloaded:
        """Takes up the folders that the settings name now. Which those are is not the client's to say."""
        return Reloaded([collection.name for collection in await reload_folders()])

    @get("/v1/collections", operation_id="listCollections")
    async def collections(self, services: NamedDependency[Services]) -> CollectionList:
        statuses = await asyncio.to_thread(services.catalog.status)
        return CollectionList([CollectionCard(s.name, s.root, s.documents, s.chunks) for s in statuses])

    @get("/v1/collections/{name:str}/documents", operation_id="listDocuments")
    async def documents(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        became: Annotated[DocumentState | None, QueryParameter(name="state")] = None,
        contains: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
        after: FromQuery[str] = "",
    ) -> DocumentPage:
        """A collection's files by path, behind the path `after`: what became of each. `contains`: only those with this
        in their paths."""
        _check_collection(name, services)
        list_page = services.catalog.list_documents_by_path
        documents = await asyncio.to_thread(list_page, name, limit + 1, after, became, contains)
        base_url = str(request.base_url)
        return DocumentPage([_document(each, base_url) for each in documents[:limit]], len(documents) > limit)

    @post("/v1/search", status_code=200, operation_id="search")
    async def search(
        self, request: Request[Any, Any, Any], data: JSONBody[SearchRequest], services: NamedDependency[Services]
    ) -> SearchResults:
        """The best passages, and with `explain`, what became of a file that was expected."""
        top_k, queries, base_url = data.top_k or services.settings.rag.top_k, [Query(data.query)], str(request.base_url)
        scope = SearchScope(data.collections)
        passages = await unless_gone(request, services.search.search(queries, top_k, scope, data.filters))
        explanation = None
        if data.explain:
            files: list[Explanation] = []
            if (expected := _expected(data.expect)) is not None:
                question = GenerationRequest(
                    messages=[ChatMessage.of_text("user", data.query)],
                    rag=RagOptions(top_k=top_k, filters=data.filters),
                )
                grounding = make_grounding_request(question, scope, services.pool.default, services)
                explaining = explain_file(grounding, expected, services.search, services.rag)
                files = await unless_gone(request, explaining)
            explanation = SearchExplanation(FLOOR, [_explained(file, base_url) for file in files])
        return SearchResults(data.query, [_result(passage, base_url) for passage in passages], explanation)


def _check_collection(name: str, services: Services) -> None:
    known = [collection.name for collection in services.collections]
    if name not in known:
        raise CollectionNotFound(name, known)


def _document(document: DocumentRecord, base_url: str) -> DocumentCard:
    return DocumentCard(
        id=document.id,
        path=document.path,
        bytes=max(document.size, 0),
        modified_at=document.mtime_ns / 1_000_000_000,
        state=document.state,
        reason=document.error if document.state == "failed" else None,
        note=document.note,
        chunks=document.num_chunks,
        url=document_url(base_url, document.id),
    )


async def _statuses(services: Services) -> AsyncGenerator[IndexStatus, None]:
    told = None
    while True:
        started = time.monotonic()
        if (status := await _status(services)) != told:
            told = status
            yield status
        await asyncio.sleep(max(_EVENT_S, 10 * (time.monotonic() - started)))  # counting a large index takes time


async def _status(services: Services) -> IndexStatus:
    progress = services.indexer_control.progress
    collections = await asyncio.to_thread(services.catalog.status)
    left = sum(collection.pending_bytes for collection in collections)
    is_indexing = progress.activity == "indexing"
    return IndexStatus(
        indexer=services.indexer_control.state,
        activity=progress.activity,
        current=CurrentFile(progress.collection, progress.path) if progress.collection and progress.path else None,
        files_per_s=progress.files_per_s,
        bytes_per_s=progress.bytes_per_s,
        seconds_left=round(left / progress.bytes_per_s, 1) if is_indexing and left and progress.bytes_per_s else None,
        lag_s=progress.lag_s,
        error=progress.error,
        switch=_switch(services, progress),
        collections=collections,
    )


def _switch(services: Services, progress: Progress) -> EmbedderSwitch | None:
    if not services.live_retriever.is_in_previous_space:
        return None
    done, total = (progress.switch.done, progress.switch.total) if progress.switch else (None, None)
    return EmbedderSwitch(done, total, "words" if services.live_retriever.is_by_words_alone else "former")


def _expected(told: ExpectedFile | str | None) -> tuple[str | None, str] | None:
    """Collection and path."""
    match told:
        case None:
            return None
        case str(path):
            return None, path
        case ExpectedFile(path=path, collection=collection):
            return collection, path


def _explained(file: Explanation, base_url: str) -> ExplainedFile:
    return ExplainedFile(
        collection=file.collection,
        path=file.path,
        outcome=file.outcome,
        reason=file.reason,
        dense_rank=file.ranks.dense,
        words_rank=file.ranks.words,
        fused_rank=file.ranks.fused,
        rank=file.rank,
        passage=_result(file.passage, base_url) if file.passage else None,
        instead=[_result(passage, base_url) for passage in file.instead],
    )


def _result(passage: Passage, base_url: str) -> SearchResult:
    return wire_passage(SearchResult, passage, base_url)
