"""RAG options from a request, and the RAG report for its reply, as all APIs have them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from index.errors import InvalidFilter
from index.search.filters import compile_filter
from index.types import Filters
from server.api.shared.passage import PassageFields
from server.api.shared.rag_wire import RagDropped, RagFilters, RagPassage, RagReply, RagRequest, TopK
from server.errors import RequestError
from server.generation.answer import Grounding
from server.http.links import passage_url
from server.rag.citations import Citation, cited_numbers, source_list
from server.rag.options import CitationStyle, Mode, RagOptions
from server.rag.prompts import Source
from server.rag.report import RagReport

_COLLECTIONS = "X-Cloister-Collections"
_TOP_K = "X-Cloister-Top-K"
_MODE = "X-Cloister-Mode"
_CITATIONS = "X-Cloister-Citations"

T = TypeVar("T")


def rag_options(
    body: RagRequest | None, headers: Mapping[str, str], citations: CitationStyle = CitationStyle.ANNOTATIONS
) -> RagOptions:
    """Return the options of the body and, for those it leaves out, of the headers.

    Headers are for clients that cannot extend the body; an empty one counts as absent. `citations` is the default style
    of the API. Raises `RequestError` with the header or the field at fault.
    """
    body = body or RagRequest()
    defaults = RagOptions()
    return RagOptions(
        collections=body.collections or _names(headers.get(_COLLECTIONS, "")),
        vector_stores=body.vector_stores or (),
        top_k=body.top_k or _parse_header(headers, _TOP_K, TopK, None),
        mode=body.mode or _parse_header(headers, _MODE, Mode, defaults.mode),
        filters=_parse_filters(body.filters),
        citations=body.citations or _parse_header(headers, _CITATIONS, CitationStyle, citations),
    )


def _parse_filters(body: RagFilters | None) -> Filters | None:
    if body is None:
        return None
    filters = Filters(
        paths=tuple(body.paths or ()),
        kinds=tuple(body.kinds or ()),
        modified_after=body.modified_after,
        modified_before=body.modified_before,
    )
    try:
        compile_filter(filters)
    except InvalidFilter as error:
        message = f"The pattern {error.pattern!r} is not valid; write it as in .gitignore."
        raise RequestError(message, "rag.filters.paths", "invalid_value") from None
    return None if filters == Filters() else filters


def _names(header: str) -> list[str] | None:
    return [name.strip() for name in header.split(",") if name.strip()] or None


def _parse_header(headers: Mapping[str, str], name: str, type: Any, default: T) -> T:
    text = headers.get(name, "").strip().lower()
    if not text:
        return default
    try:
        value: T = msgspec.convert(text, type, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"{error}.", name, "invalid_value") from None
    return value


def rag_reply(report: RagReport, base_url: str) -> RagReply:
    """Return what the reply says of its sources. If nothing was relevant to the question it lists no passages, although
    those of earlier turns are in the prompt."""
    sources = [] if report.found_nothing else [*report.earlier, *report.sources]
    new_numbers = {source.number for source in report.sources}
    return RagReply(
        queries=list(report.queries),
        passages=[_rag_passage(source, base_url, is_new=source.number in new_numbers) for source in sources],
        dropped=[RagDropped(each.label, each.reason, each.number) for each in report.dropped],
        tokens=report.num_tokens,
    )


def _rag_passage(source: Source, base_url: str, *, is_new: bool) -> RagPassage:
    passage = PassageFields.of(source.passage, base_url)
    return RagPassage(
        number=source.number,
        document_id=passage.document_id,
        chunk_id=passage.chunk_id,
        collection=passage.collection,
        path=passage.path,
        place=passage.place,
        lines=passage.lines,
        heading=passage.heading,
        score=passage.score,
        also_in=passage.also_in,
        url=passage.url,
        is_new=is_new,
    )


def format_source_list(grounding: Grounding, citations: Sequence[Citation], base_url: str) -> str:
    """Return the list of cited sources that follows the text."""
    sources = [grounding.sources[number] for number in cited_numbers(citations)]
    return source_list((each.number, each.label, passage_url(base_url, each.passage)) for each in sources)
