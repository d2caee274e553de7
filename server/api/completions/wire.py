"""POST /v1/completions on the wire, as OpenAI's clients send and read it, and Mistral's /v1/fim/completions."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.api.chat.wire import MAX_ANSWERS, MAX_STOPS, CompletionUsage, StreamOptions

MAX_PROMPTS = 128  # of one request

Limit = Annotated[int, Meta(ge=-1)]
Tokens = list[int]
Stops = (
    Annotated[str, Meta(max_length=1000)]
    | Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=MAX_STOPS)]
)


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are sampled, with OpenAI's fields and llama.cpp's."""

    temperature: Annotated[float, Meta(ge=-1, le=100)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=10)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=1, le=4096)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stops | None = None
    ignore_eos: bool | None = None
    grammar: str | None = None  # not supported; read so that it is refused instead of ignored
    json_schema: dict[str, Any] | None = None


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """A request to continue prompts. `prompt` null or absent is the empty text; a list of numbers is one prompt in
    tokens."""

    prompt: str | Annotated[list[str | int | Tokens], Meta(max_length=1_000_000)] | None = None
    suffix: str | None = None
    model: str | None = None
    max_tokens: Limit | None = None
    n_predict: Limit | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | bool | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Lists with an entry for each token. `text_offset` is where its text begins, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class TextCompletion(msgspec.Struct, frozen=True):
    """A whole reply, or a chunk of a stream, where `usage` is as in a chat's chunks."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"


class FimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Mistral's request to fill the gap between `prompt` and `suffix`."""

    prompt: str
    suffix: str | None = None
    model: str | None = None
    max_tokens: Limit | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: Stops | None = None
    random_seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
