"""Which tokens the model reads next.

There is no prefill phase and no decode phase, only sequences whose `num_computed` must catch up with their tokens
(the idea is vLLM's, v1 scheduler). Each step gives every sequence that lacks one token that token, then spends what
is left of the batch on those that lack more, oldest first. Pure Python: it knows no llama.cpp and no clock.
"""

from collections import deque
from typing import NamedTuple

from models.llm.sequence import FinishReason, Sequence


class Limits(NamedTuple):
    n_slots: int  # sequences resident at once
    n_batch: int  # tokens in one step
    n_cells: int  # tokens whose keys and values fit in memory, all sequences together
    n_ctx: int  # tokens of one sequence, prompt and answer; at most n_cells


class Chunk(NamedTuple):
    """`tokens[start:start + size]` of a sequence, to be computed in one step."""

    sequence: Sequence
    start: int
    size: int

    @property
    def is_last(self) -> bool:
        """The step catches up with the sequence: its logits give the next token."""
        return self.start + self.size == len(self.sequence.tokens)


class Step(NamedTuple):
    """One forward pass. The runner clears the slots in `cleared` before it computes the chunks."""

    chunks: list[Chunk]
    cleared: list[int]


class Progress(NamedTuple):
    """What a step brought one sequence: a token to show (None at an end token) and, once, why it ended."""

    sequence: Sequence
    token: int | None
    finish_reason: FinishReason | None


class Scheduler:
    """Owns every sequence from `add` to its end, and the slots."""

    def __init__(self, limits: Limits, end_tokens: frozenset[int]) -> None:
        if limits.n_ctx > limits.n_cells:
            raise ValueError("n_ctx cannot exceed n_cells: one sequence must always fit")
        self._limits = limits
        self._end_tokens = end_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # in order of arrival
        self._free_slots = list(reversed(range(limits.n_slots)))
        self._cleared: list[int] = []  # slots given up since the last step

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_free_cells(self) -> int:
        return self._limits.n_cells - sum(sequence.num_computed for sequence in self._running)

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence; its prompt must be shorter than `n_ctx`."""
        if sequence.num_prompt >= self._limits.n_ctx:
            raise ValueError("the prompt leaves no room for an answer")
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence wherever it is. Idempotent."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        elif sequence in self._running:
            self._running.remove(sequence)
            self._release(sequence)

    def schedule(self) -> Step:
        """The next step. Empty only when the scheduler is idle."""
        chunks: list[Chunk] = []
        num_decoding = sum(sequence.num_missing == 1 for sequence in self._running)
        prefill_budget = max(self._limits.n_batch - num_decoding, 0)
        free_cells = self.num_free_cells
        for sequence in list(self._running):
            while free_cells == 0 and sequence in self._running:
                free_cells += self._preempt_youngest()
            if sequence not in self._running:  # given up for an older one
                continue
            is_decoding = sequence.num_missing == 1
            size = 1 if is_decoding else min(sequence.num_missing, prefill_budget, free_cells)
            if size:
                chunks.append(Chunk(sequence, sequence.num_computed, size))
                free_cells -= size
                prefill_budget -= 0 if is_decoding else size
        while self._can_admit(prefill_budget, free_cells):
            sequence = self._waiting.popleft()
            sequence.slot = self._free_slots.pop()
            self._running.append(sequence)
            size = min(sequence.num_missing, prefill_budget)
            chunks.append(Chunk(sequence, 0, size))
            prefill_budget -= size
            free_cells -= len(sequence.tokens)
        cleared, self._cleared = self._cleared, []
        return Step(chunks, cleared)

    def _preempt_youngest(self) -> int:
        """Sends the last arrival back to the front of the queue, to be computed again; the cells it frees."""
        youngest = self._running.pop()
        num_cells = youngest.num_computed
        self._release(youngest)
        self._waiting.appendleft(youngest)
        return num_cells

    def _can_admit(self, budget: int, free_cells: int) -> bool:
        """Room for the whole prompt, so that admitting does not at once preempt."""
        return bool(budget and self._free_slots and self._waiting and len(self._waiting[0].tokens) <= free_cells)

    def update(self, step: Step, sampled: list[int]) -> list[Progress]:
        """Takes in a computed step. `sampled[i]` is the next token after `step.chunks[i]`, read where it `is_last`.

        Sequences that end here have left.
        """
        progress: list[Progress] = []
        for chunk, token in zip(step.chunks, sampled, strict=True):
            sequence = chunk.sequence
            is_last = chunk.is_last
            sequence.num_computed += chunk.size
            if not is_last:
                continue
            if token in self._end_tokens:
                shown, sequence.finish_reason = None, FinishReason.STOP
            else:
                shown = token
                sequence.tokens.append(token)
                is_full = len(sequence.tokens) >= self._limits.n_ctx
                if is_full or sequence.num_generated >= sequence.max_tokens:
                    sequence.finish_reason = FinishReason.LENGTH
            progress.append(Progress(sequence, shown, sequence.finish_reason))
            if sequence.finish_reason is not None:
                self._running.remove(sequence)
                self._release(sequence)
        return progress

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._free_slots.append(sequence.slot)
        self._cleared.append(sequence.slot)
        sequence.slot, sequence.num_computed = None, 0

    def check_integrity(self) -> None:
        """Every slot is free or held by exactly one running sequence; no cell is counted twice."""
        held = [sequence.slot for sequence in self._running]
        assert sorted([*self._free_slots, *(slot for slot in held if slot is not None)]) == list(
            range(self._limits.n_slots)
        )
        assert None not in held
        assert all(sequence.slot is None and sequence.num_computed == 0 for sequence in self._waiting)
        assert 0 <= self.num_free_cells <= self._limits.n_cells
        for sequence in (*self._running, *self._waiting):
            assert 0 <= sequence.num_computed < len(sequence.tokens) <= self._limits.n_ctx
            assert sequence.finish_reason is None
