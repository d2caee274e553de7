"""Decide which tokens the model computes in each step.

There is no prefill phase and no decode phase, only sequences whose `num_computed` must catch up with their tokens (the
idea is that of vLLM's v1 scheduler). Each step gives every running sequence that lacks one token that token, with a
draft of what may follow it (decode), then spends the rest of the batch on prompts, oldest first (prefill).

A sequence is waiting or running. A running one leases a slot, in which its tokens have cells. When cells or slots run
out, the sequence that is served last is preempted: it waits again, and what it has computed stays in the prefix cache
until that memory is needed. Pure Python: it knows neither llama.cpp nor a clock.
"""

from collections import Counter
from contextlib import AbstractContextManager

from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step import Limits, ScheduledChunk, SequenceOutput, Step, StepPlan
from models.llm.engine.step_cost import DraftBudget
from models.llm.kv.prefix_cache import CheckpointCache, IdlePrefix, Lease, MemoryOperation, PrefixCache, RemoveCells

_MIN_SHARED_PREFILL = (
    32  # tokens that a prompt must share with one being computed, beyond what is cached, to wait for it
)


class Scheduler:
    """Owns every sequence from `add` to its end, and the prefix cache."""

    def __init__(self, limits: Limits, end_tokens: frozenset[int]) -> None:
        if limits.n_ctx * (1 if limits.supports_partial_removal else 2) > limits.num_cells:
            raise ValueError("n_ctx cannot exceed num_cells: one sequence must always fit, with its checkpoint")
        self._limits = limits
        self._end_tokens = end_tokens
        self._waiting: list[Sequence] = []  # in order of arrival; preempted ones in front
        self._running: list[Sequence] = []  # in the order they are served: priority, then admission
        self._last_admissions: dict[str, int] = {}  # by client: the number of its latest admission
        self._num_admissions = 0
        self._cache = (PrefixCache if limits.supports_partial_removal else CheckpointCache)(limits.num_sequences)

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
        own = sum(self._cache.num_own(each.lease, each.num_computed) for each in self._running if each.lease)
        return self._limits.num_cells - self._cache.num_cells - own

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises `ValueError` when its prompt is not shorter than `n_ctx`."""
        if sequence.num_prompt >= self._limits.n_ctx:
            raise ValueError("the prompt leaves no room for an answer")
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Drop a sequence, waiting or running; what it has computed stays in the prefix cache. Idempotent."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        elif sequence in self._running:
            self._stop(sequence)

    def discard(self, sequence: Sequence) -> None:
        """Drop a sequence whose cells may be wrong: nothing more of it enters the prefix cache."""
        sequence.num_computed = sequence.lease.num_cached if sequence.lease else 0
        self.remove(sequence)

    def schedule(self, max_prefill: int | None = None) -> Step:
        """Return the next step. It has no chunks only when the scheduler is idle.

        `max_prefill`: most prompt tokens in a step that also decodes; None: as many as the batch holds.
        """
        self._preempt_for_priority()
        num_decoding = sum(sequence.num_missing == 1 for sequence in self._running)
        num_rows = self._limits.n_batch - num_decoding
        prefill_budget = min(num_rows, max_prefill) if num_decoding and max_prefill is not None else num_rows
        num_answers = max(num_decoding, 1)
        plan = StepPlan(num_rows, prefill_budget, DraftBudget(num_answers, num_answers, self._limits.step_cost))
        for sequence in list(self._running):
            if sequence in self._running and (num_cells := self._make_room(sequence, plan)):
                plan.add(self._next_chunk(sequence, plan, num_cells))
        while plan.prefill_budget > 0 and (admitted := self._admit(plan.num_cells)):
            if admitted.num_missing == 1:
                plan.spend(1)
            plan.add(self._next_chunk(admitted, plan, self._make_room(admitted, plan)))
        return Step(self.take_operations(), plan.chunks)

    def take_operations(self) -> list[MemoryOperation]:
        """Return what the runner has to do with its memory before anything else, and forget it."""
        operations, self._cache.operations = self._cache.operations, []
        return operations

    def _make_room(self, sequence: Sequence, plan: StepPlan) -> int:
        """Return how many free cells the sequence may fill; 0 when it was preempted itself.

        Evicts prefixes for as many cells as the sequence lacks, but preempts others for one cell only.
        """
        num_wanted = 1 if sequence.num_missing == 1 else min(sequence.num_missing, max(plan.prefill_budget, 1))
        while (num_free := self.num_free_cells - plan.num_cells) < num_wanted:
            if self._cache.evict():
                continue
            if num_free > 0:
                break
            last = self._running[-1]
            self._preempt(last, plan.num_cells)
            if last is sequence:
                return 0
        return num_free

    def _next_chunk(self, sequence: Sequence, plan: StepPlan, num_cells: int) -> ScheduledChunk:
        """Return the sequence's share of the step: part of its prompt, or its last token and a draft."""
        start, num_missing = sequence.num_computed, sequence.num_missing
        if num_missing > 1:
            pause = self._checkpoint_position(sequence) or 0
            num_until_pause = pause - start if start < pause else num_missing
            size = max(min(num_missing, plan.prefill_budget, num_cells, num_until_pause), 0)
            return ScheduledChunk(sequence, start, sequence.tokens[start : start + size], 0, size == num_missing)
        num_left = min(sequence.max_tokens - sequence.num_generated, self._limits.n_ctx - len(sequence.tokens))
        draft, expected = sequence.draft(min(plan.num_rows, num_cells - 1, num_left - 1), plan.draft_budget)
        plan.draft_budget = plan.draft_budget.with_draft(len(draft), expected)
        return ScheduledChunk(sequence, start, [sequence.tokens[-1], *draft], len(draft), True)

    def _admit(self, num_planned: int) -> Sequence | None:
        """Start the next waiting sequence that fits, beside `num_planned` cells of the step; None when none does."""
        if len(self._running) >= self._limits.num_slots:
            return None
        for sequence in self._admission_order():
            num_matched = self._num_matched(sequence)
            if self._is_being_computed(sequence, num_matched):
                continue
            if not self._fits(sequence, num_matched, num_planned):
                return None
            self._start(sequence)
            return sequence
        return None

    def _start(self, sequence: Sequence) -> None:
        """Lease a slot for a waiting sequence and make it a running one."""
        sequence.lease = self._cache.acquire(sequence.tokens[:-1])
        assert sequence.lease is not None
        sequence.num_computed = sequence.lease.num_cached
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed
            sequence.lease.node.is_hot = True
        self._waiting.remove(sequence)
        self._running.append(sequence)
        self._num_admissions += 1
        self._last_admissions[sequence.client] = self._num_admissions
        self._running.sort(key=lambda each: each.priority)  # stable: by admission within a priority

    def _preempt_for_priority(self) -> None:
        """Preempt running sequences, the last served first, while a more urgent one waits and does not fit."""
        if not self._waiting or not self._running:
            return
        if min(each.priority for each in self._waiting) >= self._running[-1].priority:
            return
        for first in self._admission_order():
            if not self._is_being_computed(first, self._num_matched(first)):
                break
        else:
            return
        while first.priority < self._running[-1].priority and not self._fits(first, self._num_matched(first)):
            self._preempt(self._running[-1])
            if not self._running:
                return

    def _num_matched(self, sequence: Sequence) -> int:
        """Return how many of its tokens are in memory and need no computing; its last token always does."""
        return min(self._cache.match(sequence.tokens), len(sequence.tokens) - 1)

    def _fits(self, sequence: Sequence, num_matched: int, num_planned: int = 0) -> bool:
        """Return whether there are a slot and cells for the sequence, beside `num_planned` cells of the step."""
        if len(self._running) >= self._limits.num_slots:
            return False
        # Every running sequence takes a cell in each step, so those cells are not free for a new one.
        num_evictable = max(self._cache.num_evictable - num_matched, 0)
        num_free = self.num_free_cells - num_planned + num_evictable - len(self._running)
        return not self._running or len(sequence.tokens) - num_matched < num_free

    def _admission_order(self) -> list[Sequence]:
        """Return the waiting sequences in the order of their admission.

        Priority decides, then which client has the fewest running sequences, then which was admitted longest ago, then
        arrival. So one client's long queue delays another's first request by one sequence at most, even on one slot.
        """
        num_running = Counter(sequence.client for sequence in self._running)
        last = self._last_admissions
        return sorted(
            self._waiting, key=lambda each: (each.priority, num_running[each.client], last.get(each.client, 0))
        )

    def _is_being_computed(self, sequence: Sequence, num_matched: int) -> bool:
        """Return whether a running sequence is computing much of this prompt, and will share it when it is done."""
        end = num_matched + _MIN_SHARED_PREFILL
        return any(
            end <= other.num_prompt > other.num_computed and other.tokens[:end] == sequence.tokens[:end]
            for other in self._running
            if end < len(sequence.tokens)
        )

    def update(self, step: Step, sampled: list[list[int]]) -> list[SequenceOutput]:
        """Take in the results of a step; sequences that end have stopped running when this returns.

        `sampled[i]`: of `step.chunks[i]`, the draft's tokens that the sampler would have drawn, then the token that it
        did draw; empty where the chunk wants none.
        """
        for chunk in step.chunks:  # before anything is shared, which depends on how many cells are free
            chunk.sequence.num_computed = chunk.start + len(chunk.tokens)
        outputs = []
        for chunk, tokens in zip(step.chunks, sampled, strict=True):
            if chunk.wants_token:
                outputs.append(self._accept(chunk, tokens))
            elif chunk.sequence.num_computed == self._checkpoint_position(chunk.sequence):
                self._share(chunk.sequence)
        return outputs

    def _checkpoint_position(self, sequence: Sequence) -> int | None:
        """Return where prefill pauses for a checkpoint; None where memory can be cut at any token.

        It is one token before the prompt's end, because a request with the same prompt must compute that token again.
        """
        return None if self._limits.supports_partial_removal else sequence.num_prompt - 1

    def _accept(self, chunk: ScheduledChunk, tokens: list[int]) -> SequenceOutput:
        """Append the sampled tokens to the sequence and remove the cells of rejected draft tokens."""
        sequence, num_accepted = chunk.sequence, len(tokens) - 1
        assert sequence.lease is not None
        if num_accepted < chunk.num_draft:
            sequence.num_computed -= chunk.num_draft - num_accepted
            self._cache.operations.append(RemoveCells(sequence.lease.slot, sequence.num_computed))
        appended = self._append(sequence, tokens)
        if sequence.finish_reason is not None:
            self._stop(sequence)
        elif sequence.lease.num_cached < sequence.num_prompt - 1:
            self._share(sequence)
        return SequenceOutput(sequence, appended, sequence.finish_reason)

    def _append(self, sequence: Sequence, tokens: list[int]) -> list[int]:
        """Append tokens up to the answer's end, if it comes, and return them; sets the finish reason."""
        appended: list[int] = []
        for token in tokens:
            if token in self._end_tokens:
                sequence.finish_reason = FinishReason.STOP
                break
            appended.append(token)
            sequence.tokens.append(token)
            if len(sequence.tokens) >= self._limits.n_ctx or sequence.num_generated >= sequence.max_tokens:
                sequence.finish_reason = FinishReason.LENGTH
                break
        return appended

    def _preempt(self, sequence: Sequence, num_reserved: int = 0) -> None:
        """Stop a sequence and put it in front of the queue."""
        self._stop(sequence, num_reserved)
        self._waiting.insert(0, sequence)

    def _stop(self, sequence: Sequence, num_reserved: int = 0) -> None:
        """Take a sequence's slot back. `num_reserved`: free cells that the step has promised to others."""
        assert sequence.lease is not None
        self._share(sequence, num_reserved)
        self._running.remove(sequence)
        self._cache.release(sequence.lease)
        sequence.lease, sequence.num_computed = None, 0

    def _share(self, sequence: Sequence, num_reserved: int = 0) -> None:
        """Commit what the sequence has computed to the prefix cache, so that other sequences can use it."""
        if sequence.num_computed > len(sequence.tokens) and not self._limits.supports_partial_removal:
            return  # its state has read an end token, which is not part of the sequence
        computed = sequence.tokens[: sequence.num_computed]
        if sequence.lease and len(computed) > sequence.lease.num_cached:
            self._cache.commit(sequence.lease, computed, self.num_free_cells - num_reserved)

    # What the KV tiers of `models.llm.kv` use: see `models.llm.kv.base.PrefixScheduler`.

    @property
    def supports_partial_removal(self) -> bool:
        return self._limits.supports_partial_removal

    @property
    def upcoming_prompts(self) -> list[list[int]]:
        """The tokens of waiting sequences that would be admitted now, in that order, as far as memory allows."""
        num_cells = self.num_free_cells + self._cache.num_evictable
        prompts = []
        for sequence in self._admission_order()[: self._limits.num_slots - len(self._running)]:
            num_cells -= len(sequence.tokens)
            if num_cells < 0:
                break
            prompts.append(sequence.tokens)
        return prompts

    def num_resident(self, tokens: list[int]) -> int:
        """Return how many tokens from the front are in memory."""
        return self._cache.match(tokens)

    def prefixes(self, *, hot: bool) -> list[list[int]]:
        """Return the prefixes in memory, most recently used first. `hot`: only those that a later request reused."""
        return self._cache.recent(hot=hot)

    def borrow_slot(self, tokens: list[int], num_cells: int = 0) -> Lease | None:
        """Lease a slot that shares what is in memory of `tokens`, with room for `num_cells` more; None without room.

        Evicts prefixes but preempts no sequence. The borrower calls `return_slot` before the next step.
        """
        if num_cells > self.num_free_cells + self._cache.num_evictable:
            return None
        while num_cells > self.num_free_cells and self._cache.evict():
            pass
        return self._cache.acquire(tokens)

    def return_slot(self, lease: Lease, tokens: list[int]) -> None:
        """Take a borrowed slot back; what is new of `tokens`, all that it holds, enters the prefix cache."""
        if len(tokens) > lease.num_cached:
            self._cache.commit(lease, tokens, self.num_free_cells - len(tokens))
        self._cache.release(lease)

    @property
    def num_idle_cells(self) -> int:
        """Cells of prefixes that no sequence uses or waits for; 0 without partial removal, where they slow no step."""
        with self._cache.reserve(sequence.tokens for sequence in self._waiting):
            return self._cache.num_evictable if self._limits.supports_partial_removal else 0

    def next_idle_prefix(self) -> IdlePrefix | None:
        """Return the least recently used prefix that no sequence uses, nor waits for while another runs."""
        with self._reserve_waiting():
            return self._cache.next_to_evict()

    def evict_idle_prefix(self) -> None:
        """Forget that prefix; the operations taken next empty its slot."""
        with self._reserve_waiting():
            self._cache.evict()

    def _reserve_waiting(self) -> AbstractContextManager[None]:
        return self._cache.reserve(sequence.tokens for sequence in self._waiting if self._running)

    def check_integrity(self) -> None:
        """Assert that slots, leases and cells are each counted once. For tests."""
        leases = [sequence.lease for sequence in self._running]
        assert None not in leases
        self._cache.check_integrity([lease for lease in leases if lease])
        assert len(self._running) <= self._limits.num_slots
        assert all(sequence.lease is None and sequence.num_computed == 0 for sequence in self._waiting)
        assert 0 <= self.num_free_cells <= self._limits.num_cells
        for sequence in (*self._running, *self._waiting):
            assert 0 <= sequence.num_computed < len(sequence.tokens) < self._limits.n_ctx
            assert sequence.finish_reason is None
