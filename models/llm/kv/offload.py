"""KV offload: move idle prefixes out of the model's memory into the process's own, and back when they are needed.

llama.cpp's attention goes over all cells up to the last one in use, whichever sequence they belong to: 14,000 cells of
idle prefixes cost a model of half a billion parameters a fifth of its decode speed and a third of its prefill speed
(docs/benchmarks.md). Copying a prefix takes a few milliseconds for a thousand tokens.
"""

import math
import time
from typing import NamedTuple

from models.llm.kv.base import PrefixScheduler, State, StateRunner, TokenArray
from models.llm.kv.prefixes import (
    MIN_PREFIX_TOKENS,
    is_covered,
    longest_match,
    restore,
    shorter_prefixes,
    token_array,
)

_MAX_IDLE_CELLS = 1024  # that may stay in the model's memory beside running sequences: they cost 1 or 2 % of a step
_MAX_COPY_S = 0.05  # of copying while a sequence waits for its next token


class OffloadedPrefix(NamedTuple):
    """A prefix with its state. `is_hot`: a later request reused it, as it was in the prefix cache."""

    tokens: TokenArray
    state: State
    is_hot: bool


class KVOffload:
    """Keeps at most `max_tokens` tokens of prefixes, evicting the least recently used. Belongs to the engine's thread.

    Up to `max_idle_cells` cells of idle prefixes stay in the model's memory. Prefixes of less than `min_tokens` tokens
    are dropped instead of copied.
    """

    def __init__(
        self,
        scheduler: PrefixScheduler,
        runner: StateRunner,
        max_tokens: int,
        *,
        max_idle_cells: int = _MAX_IDLE_CELLS,
        min_tokens: int = MIN_PREFIX_TOKENS,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._max_tokens = max_tokens
        self._prefixes: list[OffloadedPrefix] = []  # most recently used last; compared by identity
        self._max_idle_cells = max_idle_cells
        self._min_tokens = min_tokens
        self._is_behind = False  # the last call had no time to offload all idle prefixes

    def match(self, prompt: list[int]) -> int:
        """Return how many tokens of the prompt are offloaded."""
        return longest_match(self._prefixes, prompt)[1]

    def prefixes(self, *, hot: bool) -> list[OffloadedPrefix]:
        """Return the prefixes, most recently used first. `hot`: only those that a later request reused."""
        return [prefix for prefix in reversed(self._prefixes) if prefix.is_hot or not hot]

    def before_step(self) -> None:
        """Offload idle prefixes if there are many, and restore those that the next sequences need.

        While no sequence runs, the prefixes of waiting sequences are offloaded too; restoring puts them into the first
        cells, which keeps attention short.
        """
        if not self._max_tokens or self._scheduler.is_idle:
            return
        if self._scheduler.num_idle_cells > (0 if self._is_behind else self._max_idle_cells):
            self._is_behind = not self._offload_idle()
        for prompt in self._scheduler.upcoming_prompts:
            self._restore(prompt)

    def _restore(self, prompt: list[int]) -> None:
        prefix, size = longest_match(self._prefixes, prompt)
        if prefix is None or size - self._scheduler.num_resident(prompt) < self._min_tokens:
            return
        self._remove(prefix)
        if restore(self._scheduler, self._runner, prefix, prefix.state, prompt):
            self._prefixes.append(prefix)

    def _offload_idle(self) -> bool:
        """Copy idle prefixes out and evict them; False when there was no time for all of them."""
        deadline = time.monotonic() + _MAX_COPY_S if self._scheduler.num_running else math.inf
        self._runner.apply(self._scheduler.take_operations())
        while (idle := self._scheduler.next_idle_prefix()) and len(idle.tokens) <= self._max_tokens:
            if time.monotonic() > deadline:
                return False
            tokens = token_array(idle.tokens)
            if len(tokens) >= self._min_tokens and not is_covered(self._prefixes, tokens):
                self._add(OffloadedPrefix(tokens, self._runner.save(idle.slot), idle.is_hot))
            self._scheduler.evict_idle_prefix()
            self._runner.apply(self._scheduler.take_operations())
        return True

    def _add(self, prefix: OffloadedPrefix) -> None:
        """Append a prefix, in place of those it contains, and evict others until all fit."""
        for shorter in shorter_prefixes(self._prefixes, prefix.tokens):
            self._remove(shorter)
        self._prefixes.append(prefix)
        while sum(len(each.tokens) for each in self._prefixes) > self._max_tokens:
            del self._prefixes[0]

    def _remove(self, prefix: OffloadedPrefix) -> None:
        self._prefixes = [each for each in self._prefixes if each is not prefix]
