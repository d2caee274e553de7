"""Requests and replies of /v1/responses on the wire, as OpenAI's clients send and read them.

Unknown fields are ignored at every depth, and null means absent. A field that would change the meaning of the reply and
is not supported is refused by `request.py`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.api.responses.items import InputItem, OutputItem
from server.api.shared.rag_wire import RagReply, RagRequest
from server.api.vector_stores.wire import Metadata

MAX_ITEMS = 10_000


class ResponseRankingOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a file search ranks. `ranker` is ignored: there is one ranker."""

    ranker: str | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class ResponseTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool of any type. `name` to `strict` are a function's fields, the others those of `file_search`."""

    type: str
    name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    vector_store_ids: Annotated[list[str], Meta(min_length=1, max_length=64)] | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    filters: Any = None
    ranking_options: ResponseRankingOptions | None = None


class ResponseToolName(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    name: str | None = None


class ResponseToolChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[ResponseToolName] | None = None


class ResponseTextFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseTextOptions(msgspec.Struct, frozen=True):
    format: ResponseTextFormat | None = None
    verbosity: str | None = None


class ResponseReasoningOptions(msgspec.Struct, frozen=True):
    effort: str | None = None
    summary: str | None = None


class ResponseRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    input: str | Annotated[list[InputItem], Meta(max_length=MAX_ITEMS)] | None = None
    model: str | None = None
    instructions: str | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=128)] | None = None
    tool_choice: str | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: ResponseTextOptions | None = None
    reasoning: ResponseReasoningOptions | None = None
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
    # Not supported; read so that a request for them is refused instead of ignored.
    conversation: Any = None
    prompt: Any = None


class FunctionTool(msgspec.Struct, frozen=True, tag_field="type", tag="function", kw_only=True):
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class FileSearchTool(msgspec.Struct, frozen=True, tag_field="type", tag="file_search", kw_only=True):
    vector_store_ids: list[str]
    max_num_results: int | UnsetType = UNSET
    filters: Any = None
    ranking_options: ResponseRankingOptions | UnsetType = UNSET


class ResponseError(msgspec.Struct, frozen=True):
    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
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


ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """A response. `rag` is there if it is grounded."""

    id: str
    created_at: int
    status: ResponseStatus
    model: str
    output: list[OutputItem]
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    tools: list[FunctionTool | FileSearchTool]
    tool_choice: str | ResponseToolChoice
    parallel_tool_calls: bool
    text: ResponseTextOptions
    reasoning: ResponseReasoningOptions
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


class InputItemPage(msgspec.Struct, frozen=True):
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class InputTokenCount(msgspec.Struct, frozen=True):
    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"
