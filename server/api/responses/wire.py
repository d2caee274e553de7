"""/v1/responses on the wire, as OpenAI's clients send and read it.

Unknown fields are ignored at every depth and null means absent. What would change the meaning of the answer and cannot
be done is refused by `request.py`, not here.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.api.chat.wire import TokenLogprob
from server.api.shared.rag_wire import RagReply, RagRequest
from server.api.vector_stores.wire import Metadata

MAX_ITEMS = 10_000

# What a client sends


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a message, a tool's output or a model's reasoning."""

    type: str
    text: str | None = None
    refusal: str | None = None


class Item(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Anything that a conversation is made of; `type` says which fields count, a message has none at times.

    `arguments` are JSON text; some clients send the object.
    """

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    status: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    output: str | list[Part] | None = None
    summary: list[Part] | None = None


class RankingOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """There is one ranker, whatever is named."""

    ranker: str | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function's fields stand beside its type; the others are those of file_search."""

    type: str
    name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    vector_store_ids: Annotated[list[str], Meta(min_length=1, max_length=64)] | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    filters: Any = None
    ranking_options: RankingOptions | None = None


class ToolName(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    name: str | None = None


class ToolChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[ToolName] | None = None


class TextFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextOptions(msgspec.Struct, frozen=True):
    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(msgspec.Struct, frozen=True):
    effort: str | None = None
    summary: str | None = None


class ResponseRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    input: str | Annotated[list[Item], Meta(max_length=MAX_ITEMS)] | None = None
    model: str | None = None
    instructions: str | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    background: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    rag: RagRequest | None = None
    # What these ask for cannot be done; they are read so that asking is refused, not ignored.
    conversation: Any = None
    prompt: Any = None


# What a client is told


class FileCitation(msgspec.Struct, frozen=True, tag_field="type", tag="file_citation", kw_only=True):
    """`index`: the marker's place in the text, in characters (code points). `quote` is the sentence of the source that
    supports the answer's; with `url`, Cloister's own."""

    file_id: str
    filename: str
    index: int
    quote: str | None = None
    url: str = ""


class UrlCitation(msgspec.Struct, frozen=True, tag_field="type", tag="url_citation", kw_only=True):
    """Where no file search was asked for; `start_index` and `end_index` are the marker's."""

    url: str
    title: str
    start_index: int
    end_index: int
    quote: str | None = None


Annotation = FileCitation | UrlCitation


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text", kw_only=True):
    text: str
    annotations: list[Annotation] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message", kw_only=True):
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class FunctionCall(msgspec.Struct, frozen=True, tag_field="type", tag="function_call", kw_only=True):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


class SearchResult(msgspec.Struct, frozen=True):
    file_id: str
    filename: str
    score: float
    text: str
    attributes: dict[str, Any]


class FileSearchCall(msgspec.Struct, frozen=True, tag_field="type", tag="file_search_call", kw_only=True):
    """`results` are null unless they are asked for with `include`."""

    id: str
    status: Literal["in_progress", "searching", "completed"]
    queries: list[str]
    results: list[SearchResult] | None = None


class SummaryText(msgspec.Struct, frozen=True, tag_field="type", tag="summary_text"):
    text: str


class ReasoningItem(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning", kw_only=True):
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    summary: list[SummaryText]


OutputItem = OutputMessage | FunctionCall | FileSearchCall | ReasoningItem


class FunctionTool(msgspec.Struct, frozen=True, tag_field="type", tag="function", kw_only=True):
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class FileSearchTool(msgspec.Struct, frozen=True, tag_field="type", tag="file_search", kw_only=True):
    vector_store_ids: list[str]
    max_num_results: int | UnsetType = UNSET
    filters: Any = None
    ranking_options: RankingOptions | UnsetType = UNSET


class ResponseError(msgspec.Struct, frozen=True):
    code: str
    message: str


class Incomplete(msgspec.Struct, frozen=True):
    reason: Literal["max_output_tokens"]


class InputTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """`rag` where the answer is grounded."""

    id: str
    created_at: int
    status: Status
    model: str
    output: list[OutputItem]
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    tools: list[FunctionTool | FileSearchTool]
    tool_choice: str | ToolChoice
    parallel_tool_calls: bool
    text: TextOptions
    reasoning: ReasoningOptions
    temperature: float | None
    top_p: float | None
    top_logprobs: int | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    truncation: Literal["auto", "disabled"]
    background: bool
    store: bool
    metadata: dict[str, str]
    user: str | None = None
    usage: ResponseUsage | None = None
    rag: RagReply | UnsetType = UNSET
    object: Literal["response"] = "response"


class ResponseDeleted(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = True
    object: Literal["response"] = "response"


class ItemPage(msgspec.Struct, frozen=True):
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class InputTokens(msgspec.Struct, frozen=True):
    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


# The events of a stream, which is one response: each has its type and a number


class StreamEvent(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    sequence_number: int = 0


class ResponseEvent(StreamEvent, frozen=True):
    response: ResponseObject


class Created(ResponseEvent, frozen=True, tag="response.created"):
    pass


class Queued(ResponseEvent, frozen=True, tag="response.queued"):
    pass


class InProgress(ResponseEvent, frozen=True, tag="response.in_progress"):
    pass


class Completed(ResponseEvent, frozen=True, tag="response.completed"):
    pass


class Cut(ResponseEvent, frozen=True, tag="response.incomplete"):
    pass


class Failed(ResponseEvent, frozen=True, tag="response.failed"):
    pass


class ItemAdded(StreamEvent, frozen=True, tag="response.output_item.added", kw_only=True):
    output_index: int
    item: OutputItem


class ItemDone(StreamEvent, frozen=True, tag="response.output_item.done", kw_only=True):
    output_index: int
    item: OutputItem


class OfItem(StreamEvent, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class SearchBegun(OfItem, frozen=True, tag="response.file_search_call.in_progress"):
    pass


class Searching(OfItem, frozen=True, tag="response.file_search_call.searching"):
    pass


class Searched(OfItem, frozen=True, tag="response.file_search_call.completed"):
    pass


class OfContent(OfItem, frozen=True, kw_only=True):
    content_index: int = 0


class PartAdded(OfContent, frozen=True, tag="response.content_part.added", kw_only=True):
    part: OutputText


class PartDone(OfContent, frozen=True, tag="response.content_part.done", kw_only=True):
    part: OutputText


class TextDelta(OfContent, frozen=True, tag="response.output_text.delta", kw_only=True):
    delta: str
    logprobs: list[TokenLogprob] = []


class TextAnnotated(OfContent, frozen=True, tag="response.output_text.annotation.added", kw_only=True):
    annotation_index: int
    annotation: Annotation


class TextDone(OfContent, frozen=True, tag="response.output_text.done", kw_only=True):
    text: str
    logprobs: list[TokenLogprob] = []


class ArgumentsDelta(OfItem, frozen=True, tag="response.function_call_arguments.delta", kw_only=True):
    delta: str


class ArgumentsDone(OfItem, frozen=True, tag="response.function_call_arguments.done", kw_only=True):
    arguments: str
    name: str


class OfSummary(OfItem, frozen=True, kw_only=True):
    summary_index: int = 0


class SummaryAdded(OfSummary, frozen=True, tag="response.reasoning_summary_part.added", kw_only=True):
    part: SummaryText


class SummaryDelta(OfSummary, frozen=True, tag="response.reasoning_summary_text.delta", kw_only=True):
    delta: str


class SummaryTextDone(OfSummary, frozen=True, tag="response.reasoning_summary_text.done", kw_only=True):
    text: str


class SummaryDone(OfSummary, frozen=True, tag="response.reasoning_summary_part.done", kw_only=True):
    part: SummaryText


class ErrorEvent(StreamEvent, frozen=True, tag="error", kw_only=True):
    message: str
    code: str
    param: str | None = None
