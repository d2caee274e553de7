"""Anthropic's Messages API on the wire.

Unknown fields are ignored at every depth, and null means absent. A field that would change the meaning of the reply and
is not supported is refused by `request.py`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.api.chat.wire import MAX_STOPS
from server.api.shared.rag_wire import RagReply, RagRequest


class AnthropicDocumentSource(msgspec.Struct, frozen=True):
    """The content of a document: a text, or blocks."""

    type: str
    data: str | None = None
    content: "str | list[AnthropicBlock] | None" = None


class AnthropicBlock(msgspec.Struct, frozen=True):
    """A content block of any type, which says what fields it has. `source` is a document's content, or the name of a
    search result."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | list[AnthropicBlock] | None" = None
    is_error: bool | None = None
    thinking: str | None = None
    title: str | None = None
    source: AnthropicDocumentSource | str | None = None


class AnthropicMessage(msgspec.Struct, frozen=True):
    role: str
    content: str | list[AnthropicBlock]


class AnthropicTool(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: str | None = None
    strict: bool | None = None


class AnthropicToolChoice(msgspec.Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class AnthropicThinking(msgspec.Struct, frozen=True):
    type: str


class AnthropicOutputFormat(msgspec.Struct, frozen=True):
    type: str
    schema: dict[str, Any] | None = None


class AnthropicOutputConfig(msgspec.Struct, frozen=True):
    effort: str | None = None
    format: AnthropicOutputFormat | None = None


_Stop = Annotated[str, Meta(max_length=1000)]


class AnthropicCountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that make up a prompt."""

    messages: Annotated[list[AnthropicMessage], Meta(min_length=1)]
    model: str | None = None
    system: str | list[AnthropicBlock] | None = None
    tools: Annotated[list[AnthropicTool], Meta(max_length=128)] | None = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: AnthropicThinking | None = None
    output_config: AnthropicOutputConfig | None = None
    output_format: AnthropicOutputFormat | None = None  # the older name of `output_config.format`


class AnthropicRequest(AnthropicCountRequest, frozen=True, kw_only=True):
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    stream: bool | None = None
    stop_sequences: Annotated[list[_Stop], Meta(max_length=MAX_STOPS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    rag: RagRequest | None = None
    # Not supported; read so that a request for them is refused instead of ignored.
    container: Any = None
    mcp_servers: list[Any] | None = None


class AnthropicCitation(msgspec.Struct, frozen=True, kw_only=True):
    """A citation. `cited_text` is the sentence that supports the answer's, or the whole passage;
    `search_result_index` counts the passages of the prompt from 0."""

    cited_text: str
    source: str
    title: str
    search_result_index: int
    start_block_index: int = 0
    end_block_index: int = 1
    type: Literal["search_result_location"] = "search_result_location"


class TextBlock(msgspec.Struct, frozen=True, tag="text"):
    text: str
    citations: list[AnthropicCitation] | None = None


class ThinkingBlock(msgspec.Struct, frozen=True, tag="thinking"):
    thinking: str
    signature: str = ""


class ToolUseBlock(msgspec.Struct, frozen=True, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any] = {}


ReplyBlock = TextBlock | ThinkingBlock | ToolUseBlock


class AnthropicUsage(msgspec.Struct, frozen=True):
    """Token counts. `cache_read_input_tokens` were in the KV cache; `input_tokens` are the others."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class AnthropicMessageReply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply. `rag` is there if it is grounded."""

    id: str
    model: str
    content: list[ReplyBlock] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: AnthropicUsage
    rag: RagReply | UnsetType = UNSET
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class AnthropicTokenCount(msgspec.Struct, frozen=True):
    input_tokens: int


class AnthropicErrorDetail(msgspec.Struct, frozen=True):
    type: str
    message: str


class AnthropicError(msgspec.Struct, frozen=True):
    error: AnthropicErrorDetail
    type: Literal["error"] = "error"


# Events of a stream


class MessageStart(msgspec.Struct, frozen=True):
    message: AnthropicMessageReply
    type: Literal["message_start"] = "message_start"


class BlockStart(msgspec.Struct, frozen=True):
    index: int
    content_block: ReplyBlock
    type: Literal["content_block_start"] = "content_block_start"


class AnthropicTextDelta(msgspec.Struct, frozen=True, tag="text_delta"):
    text: str


class AnthropicThinkingDelta(msgspec.Struct, frozen=True, tag="thinking_delta"):
    thinking: str


class AnthropicInputDelta(msgspec.Struct, frozen=True, tag="input_json_delta"):
    partial_json: str


class AnthropicCitationDelta(msgspec.Struct, frozen=True, tag="citations_delta"):
    citation: AnthropicCitation


AnthropicDelta = AnthropicTextDelta | AnthropicThinkingDelta | AnthropicInputDelta | AnthropicCitationDelta


class BlockDelta(msgspec.Struct, frozen=True):
    index: int
    delta: AnthropicDelta
    type: Literal["content_block_delta"] = "content_block_delta"


class BlockStop(msgspec.Struct, frozen=True):
    index: int
    type: Literal["content_block_stop"] = "content_block_stop"


class MessageEnd(msgspec.Struct, frozen=True):
    stop_reason: str
    stop_sequence: str | None


class MessageDelta(msgspec.Struct, frozen=True):
    delta: MessageEnd
    usage: AnthropicUsage
    rag: RagReply | UnsetType = UNSET
    type: Literal["message_delta"] = "message_delta"


class MessageStop(msgspec.Struct, frozen=True):
    type: Literal["message_stop"] = "message_stop"


class Ping(msgspec.Struct, frozen=True):
    type: Literal["ping"] = "ping"


AnthropicEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | AnthropicError
