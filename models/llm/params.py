"""Settings of the engine and its sampler: frozen, with bounds that are checked when they are created."""

from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import Meta


class EngineParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is run. 0 means that a value is chosen for the model and the machine."""

    n_ctx: Annotated[
        int,
        Meta(
            ge=0, le=4_194_304, description="context length in tokens, answer included; 0: the model's own, up to 8192"
        ),
    ] = 0
    num_slots: Annotated[int, Meta(ge=1, le=64, description="requests that are generated at the same time")] = 8
    num_cached_prefixes: Annotated[
        int, Meta(ge=0, le=128, description="prefixes of finished requests in the prefix cache")
    ] = 32
    offload_tokens: Annotated[
        int,
        Meta(
            ge=-1,
            description="tokens of idle prefixes that are offloaded while other requests are answered;"
            " 0: none; -1: as many as the context length",
        ),
    ] = -1
    prefix_disk_bytes: Annotated[
        int, Meta(ge=0, description="disk space for prefixes that survive restarts, in bytes; 0: none")
    ] = 2_000_000_000
    n_batch: Annotated[
        int,
        Meta(
            ge=1,
            le=8192,
            description="most tokens in one step; with fewer, requests take turns and are cancelled sooner",
        ),
    ] = 256
    num_threads: Annotated[
        int, Meta(ge=0, le=1024, description="threads of llama.cpp; 0: number of physical cores")
    ] = 0
    n_gpu_layers: Annotated[
        int, Meta(ge=-1, le=10_000, description="layers on the GPU, if llama.cpp is built for one; -1: all")
    ] = -1
    prompt_lookup: Annotated[bool, Meta(description="draft tokens by prompt lookup; does not change answers")] = True
    max_queue: Annotated[
        int, Meta(ge=0, le=100_000, description="requests that may be queued; further ones are refused with 429")
    ] = 64

    def __post_init__(self) -> None:
        if self.num_slots > self.n_batch:
            raise ValueError("num_slots must not exceed n_batch: every slot needs a place in each step")


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter: a GGUF that changes a model. `scale` 0 changes nothing, 1 is as trained."""

    path: str
    scale: float = 1.0


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen. `temperature` 0 is greedy: of the rest, only penalties, DRY and bias then matter.

    Stages run in this order: penalties, DRY, logit bias, top-k, typical, top-p, min-p, temperature, draw. DRY ("don't
    repeat yourself") is p-e-w's, github.com/oobabooga/text-generation-webui/pull/5677; multiplier 0 is off.
    """

    temperature: Annotated[float, Meta(ge=0, le=100)] = 0.7
    top_k: Annotated[int, Meta(ge=0)] = 0
    top_p: Annotated[float, Meta(ge=0, le=1)] = 1.0
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    typical_p: Annotated[float, Meta(ge=0, le=1)] = 1.0
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=10)] = 1.0
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] = 0.0
    dry_base: Annotated[float, Meta(ge=1, le=100)] = 1.75
    dry_allowed_length: Annotated[int, Meta(ge=1)] = 2
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    num_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = (
        None  # likeliest tokens returned with each; None: no log-probabilities
    )

    @property
    def has_penalties(self) -> bool:
        return (self.repeat_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    @property
    def has_memory(self) -> bool:
        """True if the next draw depends on the tokens before it."""
        return self.has_penalties or self.dry_multiplier > 0


class CompletionBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that end a bare completion early, as `max_tokens` would; for editors, which ask at every keystroke.

    `prompt_s`: seconds to read the prompt; what was read stays in the prefix cache. `predict_s`: seconds after the
    first token, checked at the ends of lines. `indent`: the completion ends before the first line that begins with
    fewer characters of white space.
    """

    prompt_s: float | None = None
    predict_s: float | None = None
    indent: int = 0


UNBOUNDED = CompletionBounds()


class Priority(IntEnum):
    """How urgent a request is. A lower one is computed first and preempts those above it."""

    TYPING = -1  # a completion in an editor, out of date with the next character
    INTERACTIVE = 0
    BATCH = 1
