"""One stream of tokens on its way through the engine."""

from collections.abc import Collection
from enum import StrEnum
from typing import Protocol

from models.llm.engine.draft import NONE, Draft, PromptLookup
from models.llm.engine.step_cost import DraftBudget
from models.llm.kv.prefix_cache import Lease
from models.llm.params import Priority, SamplingParams


class Constraint(Protocol):
    """What an answer may be: `Choices`, or a `Grammar`. Both methods depend on `generated` alone; None: anything."""

    def after(self, generated: list[int]) -> Collection[int] | None: ...
    def forced(self, generated: list[int], limit: int) -> list[int] | None: ...


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


class Sequence:
    """A prompt and what was generated after it.

    Holds at all times: `0 <= num_computed < len(tokens)` and `num_prompt <= len(tokens)`. `lease` is None while the
    sequence waits; the scheduler alone gives and takes it. Hashes by identity.
    """

    def __init__(
        self,
        id: int,
        prompt: list[int],
        max_tokens: int,
        sampling: SamplingParams,
        *,
        constraint: Constraint | None = None,
        client: str = "",
        priority: Priority = Priority.INTERACTIVE,
        drafts: bool = True,
    ) -> None:
        if not prompt:
            raise ValueError("a sequence needs at least one token to start from")
        self.id = id
        self.tokens = list(prompt)
        self.num_prompt = len(prompt)
        self.max_tokens = max_tokens
        self.sampling = sampling
        self.constraint = constraint
        self.client = client
        self.priority = priority
        self.num_computed = 0  # tokens whose keys and values are in the slot
        self.num_cached: int | None = None  # of them, those found in the prefix cache when it first ran
        self.lease: Lease | None = None
        self.finish_reason: FinishReason | None = None
        self._lookup = PromptLookup(self.tokens) if drafts else None

    @property
    def num_missing(self) -> int:
        """Tokens the model has yet to read before it can give the next one."""
        return len(self.tokens) - self.num_computed

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - self.num_prompt

    def draft(self, limit: int, draft_budget: DraftBudget) -> Draft:
        """At most `limit` tokens that may come next: what the constraint leaves no choice about, else a lookup."""
        if limit <= 0:
            return NONE
        forced = None if self.constraint is None else self.constraint.forced(self.tokens[self.num_prompt :], limit)
        if forced is not None:
            return Draft(forced, len(forced))
        return self._lookup.propose(limit, draft_budget) if self._lookup else NONE

    def allowed(self, accepted: list[int]) -> Collection[int] | None:
        """Tokens that may come after those generated and these; None: all of them."""
        if self.constraint is None:
            return None
        return self.constraint.after(self.tokens[self.num_prompt :] + accepted)
