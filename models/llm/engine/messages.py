"""The frames between the server and an engine process."""

import msgspec

from models.ipc import ChildFailure
from models.llm.constraints.forms import ConstraintForm
from models.llm.engine.sequence import FinishReason
from models.llm.params import Adapter, EngineParams, Priority, SamplingParams


class LoadEngine(msgspec.Struct, tag=True, frozen=True):
    """First frame to the engine, which answers `EngineReady` or `ChildFailure`."""

    path: str
    params: EngineParams
    prefix_folder: str | None = None  # where prefixes are kept over restarts; None: nowhere
    adapters: tuple[Adapter, ...] = ()


class Generate(msgspec.Struct, tag=True, frozen=True):
    """Generate an answer to a prompt, at most `max_tokens` tokens."""

    id: int
    prompt: list[int]
    max_tokens: int
    sampling: SamplingParams
    choices: list[list[int]] | None = None  # the answer is one of these
    constraint: ConstraintForm | None = None  # the answer is of this form; not together with choices
    client: str = ""  # who asks; clients are served evenly
    priority: Priority = Priority.INTERACTIVE


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Stop generating an answer; no delta of it comes after this is received."""

    id: int


class EngineReady(msgspec.Struct, tag=True, frozen=True):
    """The model is loaded."""

    n_ctx: int
    num_params: int
    size: int  # bytes of the tensors


class TokenLogprobs(msgspec.Struct, array_like=True, frozen=True):
    """Natural logarithms of the model's own distribution: before penalties, constraints and temperature."""

    token: int
    logprob: float
    top: list[tuple[int, float]]  # the likeliest, best first


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """The part of an answer that one step brought; the last delta has a `finish_reason` or an `error`.

    `num_cached`: tokens of the prompt that were in memory already.
    """

    id: int
    tokens: list[int]
    num_cached: int = 0
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprobs] = []  # one for each token, if the request wants them
    error: str | None = None

    @property
    def is_last(self) -> bool:
        return self.finish_reason is not None or self.error is not None


class Deltas(msgspec.Struct, tag=True, frozen=True):
    """The deltas of one step: one frame, whatever the number of requests."""

    deltas: list[Delta]


ToEngine = LoadEngine | Generate | Cancel
FromEngine = EngineReady | Deltas | ChildFailure
