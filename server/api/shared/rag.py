"""Grounding to and from the wire, the same in every dialect."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from index.errors import InvalidFilter
from index.search.filters import compile_filter
from index.types import Filters
from server.api.shared.passage import wire_passage
from server.api.shared.rag_wire import RagDropped, RagFilters, RagPassage, RagReply, RagRequest, TopK
from server.errors import RequestError
from server.generation.answer import Grounding
from server.http.links import passage_url
from server.rag.citations import Citation, cited_numbers, source_list
from server.rag.options import CitationStyle, Mode, RagOptions
from server.rag.report import RagReport

_COLLECTIONS = "X-Cloister-Collections"
_TOP_K = "X-Cloister-Top-K"
_MODE = "X-Cloister-Mode"
_CITATIONS = "X-Cloister-Citations"

T = TypeVar("T")


def rag_options(
    asked: RagRequest | None, headers: Mapping[str, str], citations: CitationStyle = CitationStyle.ANNOTATIONS
) -> RagOptions:
    """What the body says, else what headers say, for clients that can set no more. An empty header is none.
    `citations`: the dialect's own style.

    Raises `RequestError` with the header or the field at fault.
    """
    asked = asked or RagRequest()
    told = RagOptions()
    return RagOptions(
        collections=asked.collections or _names(headers.get(_COLLECTIONS, "")),
        vector_stores=asked.vector_stores or (),
        top_k=asked.top_k or _read(headers, _TOP_K, TopK, None),
        mode=asked.mode or _read(headers, _MODE, Mode, told.mode),
        filters=_filters(asked.filters),
        citations=asked.citations or _read(headers, _CITATIONS, CitationStyle, citations),
    )


def _filters(asked: RagFilters | None) -> Filters | None:
    if asked is None:
        return None
    filters = Filters(
        paths=tuple(asked.paths or ()),
        kinds=tuple(asked.kinds or ()),
        modified_after=asked.modified_after,
        modified_before=asked.modified_before,
    )
    try:
        compile_filter(filters)
    except InvalidFilter as error:
        raise RequestError(
            f"The pattern {error.pattern!r} means nothing.", "rag.filters.paths", "invalid_value"
        ) from None
    return None if filters == Filters() else filters


def _names(format_source_list: str) -> list[str] | None:
    return [name.strip() for name in format_source_list.split(",") if name.strip()] or None


def _read(headers: Mapping[str, str], name: str, type: Any, otherwise: T) -> T:
    text = headers.get(name, "").strip().lower()
    if not text:
        return otherwise
    try:
        read: T = msgspec.convert(text, type, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"{error}.", name, "invalid_value") from None
    return read


def rag_reply(report: RagReport, base_url: str) -> RagReply:
    """Where nothing was relevant there are no passages, whatever an earlier turn has left in the prompt."""
    sources = [] if report.found_nothing else [*report.earlier, *report.sources]
    new = {source.number for source in report.sources}
    return RagReply(
        list(report.queries),
        [
            wire_passage(RagPassage, source.passage, base_url, number=source.number, is_new=source.number in new)
            for source in sources
        ],
        [RagDropped(each.label, each.reason, each.number) for each in report.dropped],
        report.num_tokens,
    )


def format_source_list(grounding: Grounding, citations: Sequence[Citation], base_url: str) -> str:
    """The list of what is cited, to stand behind the text."""
    sources = [grounding.sources[number] for number in cited_numbers(citations)]
    return source_list((each.number, each.label, passage_url(base_url, each.passage)) for each in sources)
