"""GET /v1/index/status and POST /v1/search."""

from typing import Any

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from index.types import Passage
from server.connection import unless_gone
from server.controllers.documents import passage_url
from server.protocol.index import IndexStatus, SearchRequest, SearchResult, SearchResults
from server.services import Services


class IndexController(Controller):
    @get("/v1/index/status", operation_id="indexStatus")
    async def status(self, services: NamedDependency[Services]) -> IndexStatus:
        return IndexStatus(services.indexer.state, await services.index_status())

    @post("/v1/search", status_code=200, operation_id="search")
    async def search(
        self, request: Request[Any, Any, Any], data: JSONBody[SearchRequest], services: NamedDependency[Services]
    ) -> SearchResults:
        top_k = data.top_k or services.settings.rag.top_k
        passages = await unless_gone(request, services.grounder.search(data.query, data.collections, top_k))
        base_url = str(request.base_url)
        return SearchResults(data.query, [_result(passage, base_url) for passage in passages])


def _result(passage: Passage, base_url: str) -> SearchResult:
    return SearchResult(
        text=passage.shown,
        collection=passage.collection,
        path=passage.path,
        heading=passage.heading,
        lines=(passage.line_from, passage.line_to),
        place=passage.place.label if passage.place else None,
        score=round(passage.score, 4),
        similarity=None if passage.similarity is None else round(passage.similarity, 4),
        document_id=passage.document_id,
        chunk_id=passage.chunk_id,
        url=passage_url(base_url, passage),
    )
