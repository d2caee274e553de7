"""POST /v1/chat/completions on the wire, as OpenAI's clients send and read it.

Unknown fields are ignored at every depth and null means absent: real clients send both. What would change the meaning
of the answer and cannot be done is refused by `controllers/chat.py`, not here.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType


class ContentPart(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[ContentPart] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class SchemaFormat(msgspec.Struct, frozen=True):
    schema: dict[str, Any]


class ResponseFormat(msgspec.Struct, frozen=True):
    """`schema` beside "json_object" is llama.cpp's and others' form of "json_schema"."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None
    schema: dict[str, Any] | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=1, le=4096)] | None = None
    logit_bias: dict[str, float] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    # What these ask for is not built yet; they are read so that asking is refused, not ignored.
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None


class UrlCitation(msgspec.Struct, frozen=True):
    """`start_index` and `end_index` are the marker's code points in the final text; `content` is the source's text."""

    url: str
    title: str
    start_index: int
    end_index: int
    content: str
    path: str
    collection: str
    lines: tuple[int, int]
    score: float


class Annotation(msgspec.Struct, frozen=True):
    index: int
    url_citation: UrlCitation
    type: Literal["url_citation"] = "url_citation"


class AssistantMessage(msgspec.Struct, frozen=True):
    content: str
    annotations: list[Annotation] | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(msgspec.Struct, frozen=True):
    message: AssistantMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """`cached_tokens` were in memory from earlier requests and needed no computing."""

    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatCompletion(msgspec.Struct, frozen=True):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"


class Delta(msgspec.Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    annotations: list[Annotation] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True):
    delta: Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class ChatCompletionChunk(msgspec.Struct, frozen=True):
    """`usage` is null on all but the last chunk, and absent, when the client has not asked for it."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
