"""One forward pass: its limits, the scheduler's plan of it, and its result for each sequence."""

from typing import NamedTuple

from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step_cost import CPU_COST, DraftBudget, StepCost
from models.llm.kv.prefix_cache import MemoryOperation


class Limits(NamedTuple):
    """Sizes of one engine. A cell holds the keys and values of one token."""

    num_slots: int  # sequences running at once
    num_cached_prefixes: int  # further prefixes kept in memory
    n_batch: int  # tokens in one step
    num_cells: int  # cells of all sequences and cached prefixes together
    n_ctx: int  # tokens of one sequence, prompt and answer; at most num_cells, or half of it without partial removal
    supports_partial_removal: bool = True  # whether a slot's memory can be cut at any token
    step_cost: StepCost = CPU_COST

    @property
    def num_sequences(self) -> int:
        """llama.cpp sequences needed: each running one may also keep the holder of its prefix from being evicted."""
        return 2 * self.num_slots + self.num_cached_prefixes


class ScheduledChunk(NamedTuple):
    """Tokens of a sequence, from position `start` on, that one step computes; the last `num_draft` are a draft.

    `wants_token`: the step catches up with the sequence, so its logits give the next token and verify the draft.
    """

    sequence: Sequence
    start: int
    tokens: list[int]
    num_draft: int
    wants_token: bool

    @property
    def is_prefill(self) -> bool:
        return len(self.tokens) > 1 + self.num_draft


class Step(NamedTuple):
    """One forward pass. The runner carries out the operations, in order, before it computes the chunks."""

    operations: list[MemoryOperation]
    chunks: list[ScheduledChunk]


class SequenceOutput(NamedTuple):
    """The result of a step for one sequence: tokens of its answer and, once, why the answer ended."""

    sequence: Sequence
    tokens: list[int]
    finish_reason: FinishReason | None


class StepPlan:
    """The budgets of a step while it is scheduled, and the chunks chosen so far.

    `num_rows`: free places of the batch, beside one for the next token of each sequence that decodes.
    `prefill_budget`: how many of them may go to prompts. `draft_budget`: what drafts are worth in this step.
    """

    def __init__(self, num_rows: int, prefill_budget: int, draft_budget: DraftBudget) -> None:
        self.chunks: list[ScheduledChunk] = []
        self.num_cells = 0  # that the chunks will fill
        self.num_rows = num_rows
        self.prefill_budget = prefill_budget
        self.draft_budget = draft_budget

    def add(self, chunk: ScheduledChunk) -> None:
        if not chunk.tokens:
            return
        self.chunks.append(chunk)
        self.num_cells += len(chunk.tokens)
        if chunk.sequence.num_missing == 1:
            self.spend(chunk.num_draft)  # the row of the token itself was reserved
        else:
            self.prefill_budget -= len(chunk.tokens)
            self.spend(len(chunk.tokens))

    def spend(self, num_rows: int) -> None:
        self.num_rows -= num_rows
        self.prefill_budget = min(self.prefill_budget, self.num_rows)
