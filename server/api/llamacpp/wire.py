"""The API of llama.cpp's server on the wire, as llama.vim, llama.vscode, Tabby, Continue and Zed use it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.api.chat.wire import MAX_ANSWERS
from server.api.completions.wire import CompletionRequest

_Milliseconds = Annotated[float, Meta(ge=-1, le=3_600_000)]


class LlamaCppRequest(CompletionRequest, frozen=True, kw_only=True):
    """A request to continue prompts. `response_fields` are the only fields to return, with / between the levels; with
    `n_cmpl` the reply is a list."""

    t_max_prompt_ms: _Milliseconds | None = None
    t_max_predict_ms: _Milliseconds | None = None
    n_indent: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    n_cmpl: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] | None = None
    n_probs: Annotated[int, Meta(ge=0, le=20)] | None = None
    return_tokens: bool | None = None
    response_fields: Annotated[list[str], Meta(max_length=64)] | None = None


class InfillExtra(msgspec.Struct, frozen=True):
    text: str = ""
    filename: str | None = None


class LlamaCppInfillRequest(LlamaCppRequest, frozen=True, kw_only=True):
    """A request to fill a gap. `prompt` is the text of the line before the cursor; `input_prefix` precedes it."""

    input_prefix: str | None = None
    input_suffix: str | None = None
    input_extra: Annotated[list[InfillExtra], Meta(max_length=4096)] | None = None


class LlamaCppTimings(msgspec.Struct, frozen=True):
    """Token counts and durations. `cache_n` counts the prompt tokens in the KV cache."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float


class TokenProbability(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list["TokenProbability"] = []


class LlamaCppCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply, or the last message of a stream, whose `content` is empty. Fields that `response_fields` does not
    name are missing."""

    content: str | UnsetType = UNSET
    index: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    stop_type: Literal["eos", "limit", "word", "none"] | UnsetType = UNSET
    stopping_word: str | UnsetType = UNSET
    tokens_predicted: int | UnsetType = UNSET
    tokens_evaluated: int | UnsetType = UNSET
    tokens_cached: int | UnsetType = UNSET
    timings: LlamaCppTimings | UnsetType = UNSET
    has_new_line: bool | UnsetType = UNSET
    tokens: list[int] = []
    truncated: bool = False
    stop: bool = True
    completion_probabilities: list[TokenProbability] | UnsetType = UNSET


class LlamaCppChunk(msgspec.Struct, frozen=True):
    content: str
    index: int
    tokens: list[int] = []
    stop: bool = False
    completion_probabilities: list[TokenProbability] | UnsetType = UNSET


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    content: str = ""
    model: str | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class TokenPiece(msgspec.Struct, frozen=True):
    """A token with its text, or with its bytes if they are no whole characters."""

    id: int
    piece: str | list[int]


class TokenizeReply(msgspec.Struct, frozen=True):
    tokens: Sequence[int | TokenPiece]


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    tokens: Annotated[list[int], Meta(max_length=1_000_000)] = []
    model: str | None = None


class DetokenizeReply(msgspec.Struct, frozen=True):
    content: str


class TemplateReply(msgspec.Struct, frozen=True):
    prompt: str


class GenerationSettings(msgspec.Struct, frozen=True):
    n_ctx: int
    params: dict[str, Any]


class TemplateCaps(msgspec.Struct, frozen=True):
    supports_tools: bool = True
    supports_tool_calls: bool = True


class Modalities(msgspec.Struct, frozen=True):
    vision: bool = False
    audio: bool = False


class LlamaCppProps(msgspec.Struct, frozen=True, kw_only=True):
    """Properties of a chat model. `model_path` is the name of its file."""

    default_generation_settings: GenerationSettings
    total_slots: int
    model_path: str
    model_alias: str
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str
    chat_template_caps: TemplateCaps = TemplateCaps()
    modalities: Modalities = Modalities()
    is_sleeping: bool = False


class LlamaCppSlot(msgspec.Struct, frozen=True):
    id: int
    n_ctx: int
    is_processing: bool


class LoraAdapter(msgspec.Struct, frozen=True):
    id: int
    path: str
    scale: float
