"""Items of /v1/responses on the wire: what a conversation consists of.

A client sends items of the lenient `InputItem`; the server replies with one type for each kind, `OutputItem`.
"""

from typing import Any, Literal

import msgspec

from server.api.shared.logprobs import TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a message, of a tool's output or of a model's reasoning."""

    type: str
    text: str | None = None
    refusal: str | None = None


class InputItem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An item of any kind, as clients send it back: `type` says which fields it has.

    One struct for all kinds, because a message may come without `type`, which no tagged union can express, and because
    an unknown kind is refused with its path. `arguments` is JSON text; some clients send the object.
    """

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: str | list[InputPart] | None = None
    status: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    output: str | list[InputPart] | None = None
    summary: list[InputPart] | None = None


class FileCitation(msgspec.Struct, frozen=True, tag_field="type", tag="file_citation", kw_only=True):
    """A citation of a file that a file search found. `index` is the marker's position in the text, in code points.
    `quote` is the source's sentence that supports the answer; it and `url` are Cloister's own fields."""

    file_id: str
    filename: str
    index: int
    quote: str | None = None
    url: str = ""


class ResponseUrlCitation(msgspec.Struct, frozen=True, tag_field="type", tag="url_citation", kw_only=True):
    """A citation in a reply without file search. `start_index` and `end_index` enclose the marker, in code points."""

    url: str
    title: str
    start_index: int
    end_index: int
    quote: str | None = None


ResponseAnnotation = FileCitation | ResponseUrlCitation


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text", kw_only=True):
    text: str
    annotations: list[ResponseAnnotation] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message", kw_only=True):
    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class FunctionCallItem(msgspec.Struct, frozen=True, tag_field="type", tag="function_call", kw_only=True):
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class FileSearchResult(msgspec.Struct, frozen=True):
    file_id: str
    filename: str
    score: float
    text: str
    attributes: dict[str, Any]


class FileSearchCall(msgspec.Struct, frozen=True, tag_field="type", tag="file_search_call", kw_only=True):
    """A search of vector stores that the server made. `results` is null unless the request's `include` names it."""

    id: str
    status: Literal["in_progress", "searching", "completed"]
    queries: list[str]
    results: list[FileSearchResult] | None = None


class SummaryText(msgspec.Struct, frozen=True, tag_field="type", tag="summary_text"):
    text: str


class ReasoningItem(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning", kw_only=True):
    id: str
    status: ItemStatus
    summary: list[SummaryText]


OutputItem = OutputMessage | FunctionCallItem | FileSearchCall | ReasoningItem
