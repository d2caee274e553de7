"""Prefixes that rest while others are answered: out of the model's memory, into the process's own, and back.

Attention goes over all cells up to the last one in use, whoever's they are: 14,000 cells of resting prefixes took a
fifth of the speed of half a billion parameters' answers, and a third of that at which they read (docs/benchmarks.md).
Copying a prefix takes a few milliseconds for a thousand tokens.
"""

import math
import time
from typing import NamedTuple

from models.llm.engine.scheduler import Scheduler
from models.llm.kv.prefixes import WORTH_KEEPING, State, StateRunner, Tokens, contained, covers, ids, longest, restore

_TOLERATED = 1024  # cells of resting prefixes beside somebody's work: they cost 1 or 2 % of a step
_LONGEST_S = 0.05  # of copying while somebody waits for the next token


class OffloadedPrefix(NamedTuple):
    """By identity; `is_hot` as it was in the prefix cache."""

    tokens: Tokens
    state: State
    is_hot: bool


class KVOffload:
    """For the engine's thread. Keeps at most `max_tokens`, least recently used out first.

    Up to `tolerated` cells of resting prefixes stay where they are; prefixes of less than `least` tokens are forgotten.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: StateRunner,
        max_tokens: int,
        *,
        tolerated: int = _TOLERATED,
        least: int = WORTH_KEEPING,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._max_tokens = max_tokens
        self._parked: list[OffloadedPrefix] = []  # most recently used last
        self._tolerated = tolerated
        self._least = least
        self._is_behind = False  # there was no time to take out all that rests

    def match(self, prompt: list[int]) -> int:
        """How many tokens of the prompt are here."""
        return longest(self._parked, prompt)[1]

    def prefixes(self, *, hot: bool) -> list[OffloadedPrefix]:
        """Most recently used first; with `hot`, those that a later request went on from."""
        return [parked for parked in reversed(self._parked) if parked.is_hot or not hot]

    def before_step(self) -> None:
        """Takes out what nobody needs now, if that is much, and puts back what those need who come next.

        Where nobody is being answered, what these need goes out as well, and comes back into the cells in front.
        """
        if not self._max_tokens or self._scheduler.is_idle:
            return
        if self._scheduler.num_resting > (0 if self._is_behind else self._tolerated):
            self._is_behind = not self._take_out()
        for prompt in self._scheduler.upcoming:
            self._put_back(prompt)

    def _put_back(self, prompt: list[int]) -> None:
        parked, size = longest(self._parked, prompt)
        if parked is None or size - self._scheduler.num_resident(prompt) < self._least:
            return
        self._remove(parked)
        if restore(self._scheduler, self._runner, parked, parked.state, prompt):
            self._parked.append(parked)

    def _take_out(self) -> bool:
        """False when there was no time for all of it."""
        deadline = time.monotonic() + _LONGEST_S if self._scheduler.num_running else math.inf
        self._runner.apply(self._scheduler.take_operations())
        while (resting := self._scheduler.resting()) and len(resting.tokens) <= self._max_tokens:
            if time.monotonic() > deadline:
                return False
            tokens = ids(resting.tokens)
            if len(tokens) >= self._least and not covers(self._parked, tokens):
                self._park(OffloadedPrefix(tokens, self._runner.save(resting.slot), resting.is_hot))
            self._scheduler.evict_resting()
            self._runner.apply(self._scheduler.take_operations())
        return True

    def _park(self, parked: OffloadedPrefix) -> None:
        for shorter in contained(self._parked, parked.tokens):
            self._remove(shorter)
        self._parked.append(parked)
        while sum(len(each.tokens) for each in self._parked) > self._max_tokens:
            del self._parked[0]

    def _remove(self, parked: OffloadedPrefix) -> None:
        self._parked = [each for each in self._parked if each is not parked]
