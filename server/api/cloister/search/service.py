"""Search for passages, and explain what the search did with an expected file."""

from index.search.explanation import Explanation
from index.types import Passage, Query, SearchScope
from models.llm.chat.messages import ChatMessage
from server.api.cloister.search.wire import (
    ExpectedFile,
    ExplainedFile,
    SearchExplanation,
    SearchRequest,
    SearchResult,
    SearchResults,
)
from server.api.shared.passage import PassageFields
from server.generation.generate import make_grounding_request
from server.generation.request import GenerationRequest
from server.rag.explain import explain_file
from server.rag.options import RagOptions
from server.rag.relevance import FLOOR
from server.services import Services


async def search(data: SearchRequest, services: Services, base_url: str) -> SearchResults:
    """Return the best passages. Raises `CollectionNotFound`, `InvalidFilter` and what the processes raise."""
    top_k = data.top_k or services.settings.rag.top_k
    scope = SearchScope(data.collections)
    passages = await services.search.search([Query(data.query)], top_k, scope, data.filters)
    explanation = await _explain(data, top_k, services, base_url) if data.explain else None
    results = [_search_result(passage, base_url) for passage in passages]
    return SearchResults(data.query, results, explanation)


async def _explain(data: SearchRequest, top_k: int, services: Services, base_url: str) -> SearchExplanation:
    if data.expect is None:
        return SearchExplanation(FLOOR, [])
    expected = data.expect if isinstance(data.expect, ExpectedFile) else ExpectedFile(data.expect)
    question = GenerationRequest(
        messages=[ChatMessage.of_text("user", data.query)], rag=RagOptions(top_k=top_k, filters=data.filters)
    )
    grounding = make_grounding_request(question, SearchScope(data.collections), services.pool.default, services)
    file = (expected.collection, expected.path)
    files = await explain_file(grounding, file, services.search, services.rag)
    return SearchExplanation(FLOOR, [_explained_file(file, base_url) for file in files])


def _search_result(passage: Passage, base_url: str) -> SearchResult:
    fields = PassageFields.of(passage, base_url)
    return SearchResult(
        text=fields.text,
        collection=fields.collection,
        path=fields.path,
        heading=fields.heading,
        lines=fields.lines,
        place=fields.place,
        score=fields.score,
        similarity=fields.similarity,
        document_id=fields.document_id,
        chunk_id=fields.chunk_id,
        url=fields.url,
        relevance=fields.relevance,
        also_in=fields.also_in,
    )


def _explained_file(file: Explanation, base_url: str) -> ExplainedFile:
    return ExplainedFile(
        collection=file.collection,
        path=file.path,
        outcome=file.outcome,
        reason=file.reason,
        dense_rank=file.ranks.dense,
        words_rank=file.ranks.words,
        fused_rank=file.ranks.fused,
        rank=file.rank,
        passage=_search_result(file.passage, base_url) if file.passage else None,
        instead=[_search_result(passage, base_url) for passage in file.instead],
    )
