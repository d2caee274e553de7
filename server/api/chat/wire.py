"""POST /v1/chat/completions on the wire, as OpenAI's clients send and read it.

Unknown fields are ignored at every depth, and null means absent: real clients send both. A field that would change the
meaning of the reply and is not supported is refused by `request.py`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.api.shared.logprobs import TokenLogprob
from server.api.shared.rag_wire import RagReply, RagRequest

# Roles and types for the OpenAPI document; `request.py` refuses others with a message of its own.
_Role = Annotated[
    str, Meta(extra_json_schema={"enum": ["system", "developer", "user", "assistant", "tool", "function"]})
]
_PartType = Annotated[str, Meta(extra_json_schema={"enum": ["text", "refusal"]})]
_ToolType = Annotated[str, Meta(extra_json_schema={"enum": ["function"]})]


class ChatContentPart(msgspec.Struct, frozen=True):
    type: _PartType
    text: str | None = None
    refusal: str | None = None


class ChatFunctionCall(msgspec.Struct, frozen=True):
    """A call that an earlier reply had. `arguments` is JSON text; some clients send the object."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ChatToolCall(msgspec.Struct, frozen=True):
    id: str | None = None
    function: ChatFunctionCall | None = None
    type: str | None = None


class ChatRequestMessage(msgspec.Struct, frozen=True):
    role: _Role
    content: str | list[ChatContentPart] | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None
    function_call: ChatFunctionCall | None = None
    reasoning_content: str | None = None


class ChatFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatTool(msgspec.Struct, frozen=True):
    type: _ToolType = "function"
    function: ChatFunction | None = None


class ChatFunctionName(msgspec.Struct, frozen=True):
    name: str


class ChatNamedTool(msgspec.Struct, frozen=True):
    function: ChatFunctionName | None = None
    name: str | None = None  # where the Responses API has it


class ChatAllowedTools(msgspec.Struct, frozen=True):
    tools: list[ChatNamedTool]
    mode: Literal["auto", "required"] = "auto"


class ChatToolChoice(msgspec.Struct, frozen=True):
    type: str
    function: ChatFunctionName | None = None
    name: str | None = None
    allowed_tools: ChatAllowedTools | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ChatJsonSchema(msgspec.Struct, frozen=True):
    schema: dict[str, Any]


class ChatResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer. `schema` beside "json_object" is llama.cpp's way to write "json_schema"."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: ChatJsonSchema | None = None
    schema: dict[str, Any] | None = None


MAX_ANSWERS = 16  # to one request
MAX_STOPS = 64

_Limit = Annotated[int, Meta(ge=-1)]
_Stop = Annotated[str, Meta(max_length=1000)]


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    messages: Annotated[list[ChatRequestMessage], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Limit | None = None
    max_completion_tokens: _Limit | None = None
    n_predict: _Limit | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=10)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=1, le=4096)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=MAX_STOPS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ChatResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    tools: Annotated[list[ChatTool], Meta(max_length=128)] | None = None
    tool_choice: str | ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[ChatFunction], Meta(max_length=128)] | None = None
    function_call: str | ChatFunctionName | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    rag: RagRequest | None = None
    # Not supported; read so that a request for them is refused instead of ignored.
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    grammar: str | None = None


class ChatUrlCitation(msgspec.Struct, frozen=True, kw_only=True):
    """A citation. `start_index` and `end_index` enclose its marker in the final text, in code points.

    `content` is the source's text, `quote` its sentence that supports the answer's, if one does. `place` is the page,
    slide or rows, null where `lines` of the extracted text say it. `page` is the first page, as a number.
    """

    url: str
    title: str
    start_index: int
    end_index: int
    content: str
    quote: str | None
    number: int
    document_id: int
    chunk_id: int
    collection: str
    path: str
    filename: str
    heading: tuple[str, ...]
    lines: tuple[int, int]
    place: str | None
    page: int | None
    score: float


class ChatAnnotation(msgspec.Struct, frozen=True):
    index: int
    url_citation: ChatUrlCitation
    type: Literal["url_citation"] = "url_citation"


class ChatReplyFunction(msgspec.Struct, frozen=True):
    """A call's function. `arguments` is JSON text. In a stream only the first piece of a call has the name."""

    arguments: str
    name: str | UnsetType = UNSET


class ChatReplyToolCall(msgspec.Struct, frozen=True):
    """A call by the model. In streams `index` counts the calls of an answer, and only the first piece has `id` and
    `type`."""

    function: ChatReplyFunction
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChatLogprobs(msgspec.Struct, frozen=True):
    """The log probabilities of the content's tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The model's message. `content` is null if it only has calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChatReplyToolCall] | UnsetType = UNSET
    function_call: ChatReplyFunction | UnsetType = UNSET
    annotations: list[ChatAnnotation] | UnsetType = UNSET
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: ChatLogprobs | None = None


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """`cached_tokens` are those in the KV cache from earlier requests."""

    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class CompletionUsage(msgspec.Struct, frozen=True):
    """Token counts. The prompt counts once, whatever the number of choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class ChatCompletion(msgspec.Struct, frozen=True):
    """A whole reply. `rag` is there if it is grounded."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    rag: RagReply | UnsetType = UNSET
    object: Literal["chat.completion"] = "chat.completion"


class ChatDelta(msgspec.Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChatReplyToolCall] | UnsetType = UNSET
    function_call: ChatReplyFunction | UnsetType = UNSET
    annotations: list[ChatAnnotation] | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True):
    index: int
    delta: ChatDelta
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(msgspec.Struct, frozen=True):
    """A chunk of a streamed reply.

    `usage` is null on all but the last chunk, and absent if it was not requested. If the reply is grounded, `rag` is on
    the first chunk and on the last one that has a choice.
    """

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    rag: RagReply | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
