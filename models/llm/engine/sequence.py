"""One request's tokens on their way through the engine."""

from collections.abc import Collection
from enum import StrEnum

from models.llm.constraints.base import Constraint
from models.llm.engine.draft import NO_DRAFT, Draft, PromptLookup
from models.llm.engine.step_cost import DraftBudget
from models.llm.kv.prefix_cache import Lease
from models.llm.params import Priority, SamplingParams


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


class Sequence:
    """A prompt and the tokens generated after it. Hashes by identity.

    Holds at all times: `0 <= num_computed < len(tokens)` and `num_prompt <= len(tokens)`. `lease` is the slot of a
    running sequence, and None while the sequence waits; only the scheduler sets it.
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
        prompt_lookup: bool = True,
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
        self.num_cached: int | None = None  # those of them that were in the prefix cache when the sequence first ran
        self.lease: Lease | None = None
        self.finish_reason: FinishReason | None = None
        self._prompt_lookup = PromptLookup(self.tokens) if prompt_lookup else None

    @property
    def num_missing(self) -> int:
        """Tokens the model has yet to compute before it can give the next one."""
        return len(self.tokens) - self.num_computed

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - self.num_prompt

    def draft(self, limit: int, draft_budget: DraftBudget) -> Draft:
        """Propose at most `limit` next tokens: those that the constraint forces, else those of prompt lookup."""
        if limit <= 0:
            return NO_DRAFT
        forced = (
            None if self.constraint is None else self.constraint.forced_tokens(self.tokens[self.num_prompt :], limit)
        )
        if forced is not None:
            return Draft(forced, len(forced))
        return self._prompt_lookup.propose(limit, draft_budget) if self._prompt_lookup else NO_DRAFT

    def allowed_tokens(self, accepted: list[int]) -> Collection[int] | None:
        """Return the tokens that may follow those generated and then `accepted`; None: every token."""
        if self.constraint is None:
            return None
        return self.constraint.after(self.tokens[self.num_prompt :] + accepted)
