"""Prefixes of tokens whose memory is kept outside the model's own: which serves a prompt best, and putting it back."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.llm.engine.scheduler import Scheduler
from models.llm.kv.prefix_cache import Operation, Remove

WORTH_KEEPING = 64  # tokens; fewer are computed again in no time

Tokens = NDArray[np.int32]
State = memoryview | bytes  # llama.cpp's, of a sequence that has read the tokens


class Kept(Protocol):
    @property
    def tokens(self) -> Tokens: ...


class StateRunner(Protocol):
    def apply(self, operations: list[Operation]) -> None: ...
    def save(self, slot: int) -> State: ...
    def load(self, slot: int, state: State) -> bool: ...


K = TypeVar("K", bound=Kept)


def ids(tokens: Sequence[int]) -> Tokens:
    return np.asarray(tokens, np.int32)


def agreement(a: Tokens, b: Tokens) -> int:
    """How many tokens from the front are the same."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if different.size else size


def longest(kept: Iterable[K], prompt: Sequence[int], *, whole: bool = False) -> tuple[K | None, int]:
    """The prefix with which the prompt agrees longest, and how far; with `whole`, to its own end or not at all.

    The last token is never matched: something must be left to compute.
    """
    wanted = ids(prompt[:-1])
    best: K | None = None
    most = 0
    for each in kept:
        size = agreement(each.tokens, wanted)
        if size > most and (not whole or size == len(each.tokens)):
            best, most = each, size
    return best, most


def covers(kept: Iterable[Kept], tokens: Tokens, *, whole: bool = False) -> bool:
    """Whether one begins with all of these; with `whole`, is these."""
    size = len(tokens)
    return any(agreement(k.tokens, tokens) == size and (not whole or len(k.tokens) == size) for k in kept)


def contained(kept: Iterable[K], tokens: Tokens) -> list[K]:
    """Those that these tokens begin with, and go on from."""
    return [each for each in kept if len(each.tokens) == agreement(each.tokens, tokens) < len(tokens)]


def restore(scheduler: Scheduler, runner: StateRunner, kept: Kept, state: State, prompt: Sequence[int]) -> int:
    """Puts a prefix back into the model's memory, as far as the prompt agrees with it; how many tokens that is.

    0 when there is no room without stopping somebody's work, or llama.cpp does not take it.
    """
    lease = scheduler.lend([], num_cells=len(kept.tokens))
    if lease is None:
        return 0
    runner.apply(scheduler.take_operations())
    size = agreement(kept.tokens, ids(prompt)) if runner.load(lease.slot, state) else 0
    if size < len(kept.tokens):
        runner.apply([Remove(lease.slot, size)])
    scheduler.take_back(lease, kept.tokens[:size].tolist())
    return size
