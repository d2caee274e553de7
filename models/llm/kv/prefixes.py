"""Prefixes whose memory is kept outside the model's own: finding the best for a prompt, and restoring it."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from models.llm.kv.base import PrefixScheduler, State, StateRunner, TokenArray
from models.llm.kv.prefix_cache import RemoveCells

MIN_PREFIX_TOKENS = 64  # a shorter prefix is computed again in no time


class CachedPrefix(Protocol):
    """A prefix whose state is kept somewhere."""

    @property
    def tokens(self) -> TokenArray: ...


P = TypeVar("P", bound=CachedPrefix)


def token_array(tokens: Sequence[int]) -> TokenArray:
    return np.asarray(tokens, np.int32)


def common_length(a: TokenArray, b: TokenArray) -> int:
    """Return how many tokens from the front are the same."""
    size = min(len(a), len(b))
    differences = np.flatnonzero(a[:size] != b[:size])
    return int(differences[0]) if differences.size else size


def longest_match(prefixes: Iterable[P], prompt: Sequence[int], *, whole: bool = False) -> tuple[P | None, int]:
    """Return the prefix that has most tokens in common with the prompt, and how many.

    `whole`: only prefixes that the prompt begins with count. The prompt's last token is never matched: at least one
    token must be left to compute.
    """
    matchable = token_array(prompt[:-1])
    best: P | None = None
    best_length = 0
    for prefix in prefixes:
        length = common_length(prefix.tokens, matchable)
        if length > best_length and (not whole or length == len(prefix.tokens)):
            best, best_length = prefix, length
    return best, best_length


def is_covered(prefixes: Iterable[CachedPrefix], tokens: TokenArray, *, whole: bool = False) -> bool:
    """Return whether one of the prefixes begins with all of `tokens`; with `whole`, whether one is equal to them."""
    size = len(tokens)
    return any(
        common_length(prefix.tokens, tokens) == size and (not whole or len(prefix.tokens) == size)
        for prefix in prefixes
    )


def shorter_prefixes(prefixes: Iterable[P], tokens: TokenArray) -> list[P]:
    """Return the prefixes that `tokens` begin with and are longer than."""
    return [each for each in prefixes if len(each.tokens) == common_length(each.tokens, tokens) < len(tokens)]


def restore(
    scheduler: PrefixScheduler, runner: StateRunner, prefix: CachedPrefix, state: State, prompt: Sequence[int]
) -> int:
    """Load a prefix into the model's memory as far as the prompt agrees with it; return how many tokens that is.

    Returns 0 when there is no room without preempting a sequence, or llama.cpp refuses the state.
    """
    lease = scheduler.borrow_slot([], num_cells=len(prefix.tokens))
    if lease is None:
        return 0
    runner.apply(scheduler.take_operations())
    size = common_length(prefix.tokens, token_array(prompt)) if runner.load(lease.slot, state) else 0
    if size < len(prefix.tokens):
        runner.apply([RemoveCells(lease.slot, size)])
    scheduler.return_slot(lease, prefix.tokens[:size].tolist())
    return size
