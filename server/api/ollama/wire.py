"""Ollama's API on the wire: its fields, its frames, its errors.

Unknown fields are ignored at every depth, and null means absent. A field that would change the meaning of the reply and
is not supported is refused by `request.py`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.api.chat.wire import MAX_STOPS
from server.api.shared.logprobs import TokenLogprob
from server.api.shared.rag_wire import RagReply, RagRequest

_Stop = Annotated[str, Meta(max_length=1000)]


class OllamaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling options. A limit or seed below 0 counts as absent. Options of loading a model are ignored; the server's
    settings have them."""

    num_predict: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_k: Annotated[int, Meta(le=2**31 - 1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=MAX_STOPS)] | None = None


class OllamaFunctionCall(msgspec.Struct, frozen=True):
    """A call. `arguments` is an object; some clients send JSON text. `index` counts the calls of an answer."""

    name: str
    arguments: dict[str, Any] | str | None = None
    index: int | UnsetType | None = UNSET


class OllamaToolCall(msgspec.Struct, frozen=True):
    function: OllamaFunctionCall
    id: str | UnsetType | None = UNSET


class OllamaMessage(msgspec.Struct, frozen=True):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[OllamaToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OllamaFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OllamaTool(msgspec.Struct, frozen=True):
    type: str | None = None
    function: OllamaFunction | None = None


class OllamaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that chat and generate share. The reply is streamed unless `stream` is false.

    `format` is "json" or a schema. `keep_alive` is in seconds, or a duration such as "5m"; below 0 it is for ever.
    """

    model: str | None = None
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: OllamaOptions | None = None
    keep_alive: float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    rag: RagRequest | None = None


class OllamaChatRequest(OllamaRequest, frozen=True, kw_only=True):
    """A chat. Without messages the model is loaded, or by `keep_alive` 0 unloaded."""

    messages: list[OllamaMessage] | None = None
    tools: Annotated[list[OllamaTool], Meta(max_length=128)] | None = None


class OllamaGenerateRequest(OllamaRequest, frozen=True, kw_only=True):
    """A prompt. Without one the model is loaded, or by `keep_alive` 0 unloaded."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    # Not supported, except `raw`; read so that a request for them is refused instead of ignored.
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[Any] | None = None


class OllamaModelRequest(msgspec.Struct, frozen=True):
    """The model to describe. Older clients send `name`."""

    model: str | None = None
    name: str | None = None


class OllamaEmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed. A text longer than the model reads is embedded in parts, or refused if `truncate` is false."""

    model: str | None = None
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class OllamaLegacyEmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None
    prompt: str | None = None


class OllamaEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """A unit vector for each text. Durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int


class OllamaLegacyEmbedding(msgspec.Struct, frozen=True):
    embedding: list[float]


class OllamaReplyMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str = ""
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaToolCall] | UnsetType = UNSET


class OllamaFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a stream, or the whole reply. The fields from `done_reason` on are on the last line; durations are in
    nanoseconds. `rag` is there if the reply is grounded."""

    model: str
    created_at: str
    done: bool = False
    logprobs: list[TokenLogprob] | UnsetType = UNSET
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    rag: RagReply | UnsetType = UNSET


class OllamaChatFrame(OllamaFrame, frozen=True, kw_only=True):
    message: OllamaReplyMessage = OllamaReplyMessage()


class OllamaGenerateFrame(OllamaFrame, frozen=True, kw_only=True):
    response: str = ""
    thinking: str | UnsetType = UNSET


class OllamaModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A model's details. `parameter_size` is a text such as "1.5B"."""

    parent_model: str = ""
    format: str = "gguf"
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str = "unknown"


class OllamaModelTag(msgspec.Struct, frozen=True, kw_only=True):
    """A model. `size` is in bytes; `digest` has 64 hexadecimal digits that change with the model's file."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaModelDetails
    capabilities: list[str]


class OllamaTagList(msgspec.Struct, frozen=True):
    models: list[OllamaModelTag]


class OllamaRunningModel(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model. Sizes are estimates in bytes; `context_length` is in tokens."""

    name: str
    model: str
    size: int
    size_vram: int
    digest: str
    details: OllamaModelDetails
    expires_at: str
    context_length: int


class OllamaRunningList(msgspec.Struct, frozen=True):
    models: list[OllamaRunningModel]


class OllamaModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model's description. `model_info` has the keys of the GGUF file, `parameters` a line for each default."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaModelDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    license: str


class OllamaVersion(msgspec.Struct, frozen=True):
    version: str


class OllamaError(msgspec.Struct, frozen=True):
    error: str
