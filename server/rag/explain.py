"""Explains why a file is, or is not, among the sources of a question."""

import msgspec

from index.search.explanation import Explanation, Outcome
from index.types import Query
from server.rag.context import Context, FittedContext
from server.rag.pipeline import RagPipeline
from server.rag.relevance import FLOOR, filter_relevant, relevance
from server.rag.request import GroundingRequest
from server.resources.search import SearchService

_NO_SENTENCE = "none of its sentences is near enough to the question"


async def explain_file(
    request: GroundingRequest, expected: tuple[str | None, str], search: SearchService, rag: RagPipeline
) -> list[Explanation]:
    """Explain what becomes of a file when the request's question is asked: in the search, at the relevance floor, and
    in the model's context. `expected` is a collection, None for any, and the path in it.

    Raises what `RagPipeline.ground` does.
    """
    explanations = await search.explain(
        [Query(request.question)], rag.num_passages(request), expected, request.scope, request.options.filters
    )
    explanations = [_check_relevance(each) for each in explanations]
    if all(each.outcome != Outcome.FOUND for each in explanations):
        return explanations
    empty = Context(request.messages, {}, question_first=request.layout.question_first)
    _, fitted = await rag.add_sources(request, empty)
    return [_check_room(each, fitted) for each in explanations]


def _check_relevance(explanation: Explanation) -> Explanation:
    """Mark a file whose passage was found but has too little to do with the question."""
    passage = explanation.passage
    if explanation.outcome != Outcome.FOUND or passage is None or filter_relevant([passage]):
        return explanation
    reason = f"it was found, and has too little to do with the question: {relevance(passage):.1f}, of {FLOOR} needed"
    return msgspec.structs.replace(explanation, outcome=Outcome.BELOW_FLOOR, reason=reason)


def _check_room(explanation: Explanation, fitted: FittedContext) -> Explanation:
    """Mark a file that was found but is not in the prompt: it had no room, or no sentence for a model that reads
    single sentences."""
    file = f"{explanation.collection}/{explanation.path}"
    sources = fitted.context.sources.values()
    if explanation.outcome != Outcome.FOUND or any(source.passage.file == file for source in sources):
        return explanation
    reasons = [dropped.reason for dropped in fitted.dropped if dropped.label.startswith(file)]
    reason = f"it was found, and not given to the model: {(reasons or [_NO_SENTENCE])[0]}"
    return msgspec.structs.replace(explanation, outcome=Outcome.NO_ROOM, reason=reason)
