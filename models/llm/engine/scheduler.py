"""Which tokens the model reads next.

There is no prefill phase and no decode phase, only sequences whose `num_computed` must catch up with their tokens
(the idea is vLLM's, v1 scheduler). Each step gives every sequence that lacks one token that token, and a few guesses
at what comes after it, then spends what is left of the batch on those that lack more, oldest first. Pure Python: it
knows no llama.cpp and no clock.
"""

from collections import Counter
from contextlib import AbstractContextManager
from typing import NamedTuple

from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step_cost import CPU_COST, DraftBudget, StepCost
from models.llm.kv.prefix_cache import CheckpointCache, Lease, Operation, PrefixCache, Remove, Resting

_SHARED_PREFILL = (
    32  # tokens; a prompt waits for one that is being computed if they share this much more than is cached
)


class Limits(NamedTuple):
    n_slots: int  # sequences running at once
    n_cached: int  # further prefixes kept in memory
    n_batch: int  # tokens in one step
    n_cells: int  # tokens whose keys and values fit in memory, all sequences and prefixes together
    n_ctx: int  # tokens of one sequence, prompt and answer; at most n_cells, or half of it when not divisible
    supports_partial_removal: bool = True  # whether the model's memory can be cut at any token
    step_cost: StepCost = CPU_COST

    @property
    def num_sequences(self) -> int:
        """llama.cpp sequences needed: each that runs may also keep the holder of its prefix from being evicted."""
        return 2 * self.n_slots + self.n_cached


class Chunk(NamedTuple):
    """Tokens of a sequence from position `start` on, to be computed in one step; the last `num_draft` are guesses.

    `wants_token`: the step catches up with the sequence, so its logits give the next token, and check the guesses.
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

    operations: list[Operation]
    chunks: list[Chunk]


class _Plan:
    """A step in the making. `rows`: what is left of the batch; `prefill`: what of that may go to prompts;
    `draft_budget`: of the answers that go on in it."""

    def __init__(self, rows: int, prefill: int, draft_budget: DraftBudget) -> None:
        self.chunks: list[Chunk] = []
        self.num_cells = 0  # that the chunks will fill
        self.rows = rows
        self.prefill = prefill
        self.draft_budget = draft_budget

    def take(self, chunk: Chunk) -> None:
        """A place for each running sequence's next token is set aside before; its draft is not."""
        if not chunk.tokens:
            return
        self.chunks.append(chunk)
        self.num_cells += len(chunk.tokens)
        if chunk.sequence.num_missing == 1:
            self.spend(chunk.num_draft)
        else:
            self.prefill -= len(chunk.tokens)
            self.spend(len(chunk.tokens))

    def spend(self, rows: int) -> None:
        self.rows -= rows
        self.prefill = min(self.prefill, self.rows)


class Progress(NamedTuple):
    """What a step brought one sequence: tokens to show and, once, why it ended."""

    sequence: Sequence
    tokens: list[int]
    finish_reason: FinishReason | None


class Scheduler:
    """Owns every sequence from `add` to its end, and the prefix cache."""

    def __init__(self, limits: Limits, end_tokens: frozenset[int]) -> None:
        if limits.n_ctx * (1 if limits.supports_partial_removal else 2) > limits.n_cells:
            raise ValueError("n_ctx cannot exceed n_cells: one sequence must always fit, with its checkpoint")
        self._limits = limits
        self._end_tokens = end_tokens
        self._waiting: list[Sequence] = []  # in order of arrival; preempted ones in front
        self._running: list[Sequence] = []  # in the order they are served: priority, then admission
        self._admissions: dict[str, int] = {}  # by client: the number of its latest admission
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
        return self._limits.n_cells - self._cache.num_cells - own

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence; its prompt must be shorter than `n_ctx`."""
        if sequence.num_prompt >= self._limits.n_ctx:
            raise ValueError("the prompt leaves no room for an answer")
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence wherever it is. What it has computed stays in the prefix cache. Idempotent."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        elif sequence in self._running:
            self._leave(sequence)

    def discard(self, sequence: Sequence) -> None:
        """Forgets a sequence whose cells are not to be trusted: what it has not shared yet goes."""
        sequence.num_computed = sequence.lease.num_cached if sequence.lease else 0
        self.remove(sequence)

    def schedule(self, beside: int | None = None) -> Step:
        """The next step. Without chunks only when the scheduler is idle.

        `beside`: most tokens of prompts in a step that also goes on with answers; None: as many as fit.
        """
        self._give_way()
        num_decoding = sum(sequence.num_missing == 1 for sequence in self._running)
        rows = self._limits.n_batch - num_decoding
        prefill = min(rows, beside) if num_decoding and beside is not None else rows
        num_answers = max(num_decoding, 1)
        plan = _Plan(rows, prefill, DraftBudget(num_answers, num_answers, self._limits.step_cost))
        for sequence in list(self._running):
            if sequence in self._running and (room := self._make_room(sequence, plan)):
                plan.take(self._chunk(sequence, plan, room))
        while plan.prefill > 0 and (admitted := self._admit(plan.num_cells)):
            if admitted.num_missing == 1:
                plan.spend(1)
            plan.take(self._chunk(admitted, plan, self._make_room(admitted, plan)))
        return Step(self.take_operations(), plan.chunks)

    def take_operations(self) -> list[Operation]:
        """What the runner has to do with its memory before anything else."""
        operations, self._cache.operations = self._cache.operations, []
        return operations

    @property
    def supports_partial_removal(self) -> bool:
        return self._limits.supports_partial_removal

    def num_resident(self, tokens: list[int]) -> int:
        """How many tokens from the front are in memory."""
        return self._cache.match(tokens)

    def prefixes(self, *, hot: bool) -> list[list[int]]:
        """Those in memory, most recently used first; with `hot`, those that a later request went on from."""
        return self._cache.recent(hot=hot)

    def lend(self, tokens: list[int], num_cells: int = 0) -> Lease | None:
        """A slot that shares what is in memory of `tokens`, and room for `num_cells` more in it; None if there is not.

        To be given back with `take_back` before the next step. Nobody's work is stopped for it.
        """
        if num_cells > self.num_free_cells + self._cache.num_evictable:
            return None
        while num_cells > self.num_free_cells and self._cache.evict():
            pass
        return self._cache.acquire(tokens)

    @property
    def upcoming(self) -> list[list[int]]:
        """Those who wait, as they would be taken into service now, as many as there is room for."""
        room = self.num_free_cells + self._cache.num_evictable
        upcoming = []
        for sequence in self._queue()[: self._limits.n_slots - len(self._running)]:
            room -= len(sequence.tokens)
            if room < 0:
                break
            upcoming.append(sequence.tokens)
        return upcoming

    @property
    def num_resting(self) -> int:
        """Cells of prefixes that nobody uses or waits for. 0 where they cannot be cut: those slow no step."""
        with self._cache.reserving(sequence.tokens for sequence in self._waiting):
            return self._cache.num_evictable if self._limits.supports_partial_removal else 0

    def resting(self) -> Resting | None:
        """The prefix used least recently that nobody uses; while somebody is running, that nobody waits for either."""
        with self._reserving():
            return self._cache.next_to_evict()

    def evict_resting(self) -> None:
        """Forgets that prefix; its slot is emptied by the operations taken next."""
        with self._reserving():
            self._cache.evict()

    def _reserving(self) -> AbstractContextManager[None]:
        return self._cache.reserving(sequence.tokens for sequence in self._waiting if self._running)

    def take_back(self, lease: Lease, tokens: list[int]) -> None:
        """`tokens`: all that the slot holds now; what is new of it is shared."""
        if len(tokens) > lease.num_cached:
            self._cache.commit(lease, tokens, self.num_free_cells - len(tokens))
        self._cache.release(lease)

    def _make_room(self, sequence: Sequence, plan: "_Plan") -> int:
        """Free cells for the sequence, evicting prefixes for what it lacks and preempting for one token.

        0 when the sequence itself was preempted, being the last to be served.
        """
        wanted = 1 if sequence.num_missing == 1 else min(sequence.num_missing, max(plan.prefill, 1))
        while (room := self.num_free_cells - plan.num_cells) < wanted:
            if self._cache.evict():
                continue
            if room > 0:
                break
            last = self._running[-1]
            self._leave(last, plan.num_cells)
            self._waiting.insert(0, last)
            if last is sequence:
                return 0
        return room

    def _chunk(self, sequence: Sequence, plan: "_Plan", room: int) -> Chunk:
        start, missing = sequence.num_computed, sequence.num_missing
        if missing > 1:
            pause = self._stop_before(sequence) or 0
            upto = pause - start if start < pause else missing
            size = max(min(missing, plan.prefill, room, upto), 0)
            return Chunk(sequence, start, sequence.tokens[start : start + size], 0, size == missing)
        to_generate = min(sequence.max_tokens - sequence.num_generated, self._limits.n_ctx - len(sequence.tokens))
        tokens, expected = sequence.draft(min(plan.rows, room - 1, to_generate - 1), plan.draft_budget)
        plan.draft_budget = plan.draft_budget.with_draft(len(tokens), expected)
        return Chunk(sequence, start, [sequence.tokens[-1], *tokens], len(tokens), True)

    def _admit(self, planned: int) -> Sequence | None:
        """Takes the next of the queue into service."""
        if len(self._running) >= self._limits.n_slots:
            return None
        for sequence in self._queue():
            matched = self._matched(sequence)
            if self._is_being_computed(sequence, matched):
                continue
            if not self._has_place(sequence, matched, planned):
                return None
            sequence.lease = self._cache.acquire(sequence.tokens[:-1])
            assert sequence.lease is not None
            sequence.num_computed = sequence.lease.num_cached
            if sequence.num_cached is None:
                sequence.num_cached = sequence.num_computed
                sequence.lease.node.is_hot = True
            self._waiting.remove(sequence)
            self._running.append(sequence)
            self._num_admissions += 1
            self._admissions[sequence.client] = self._num_admissions
            self._running.sort(key=lambda each: each.priority)  # stable: by admission within
            return sequence
        return None

    def _give_way(self) -> None:
        """Takes out of service those who are served last, for the first in the queue if it goes before them."""
        if not self._waiting or not self._running:
            return
        if min(each.priority for each in self._waiting) >= self._running[-1].priority:
            return
        for first in self._queue():
            if not self._is_being_computed(first, self._matched(first)):
                break
        else:
            return
        while first.priority < self._running[-1].priority and not self._has_place(first, self._matched(first)):
            last = self._running[-1]
            self._leave(last)
            self._waiting.insert(0, last)
            if not self._running:
                return

    def _matched(self, sequence: Sequence) -> int:
        """Tokens of it that are in memory and need no computing."""
        return min(self._cache.match(sequence.tokens), len(sequence.tokens) - 1)

    def _has_place(self, sequence: Sequence, matched: int, planned: int = 0) -> bool:
        if len(self._running) >= self._limits.n_slots:
            return False
        # Everyone running gets a token each step, so room for those is not room for a newcomer.
        room = self.num_free_cells - planned + max(self._cache.num_evictable - matched, 0) - len(self._running)
        return not self._running or len(sequence.tokens) - matched < room

    def _queue(self) -> list[Sequence]:
        """Return the waiting sequences in the order of their admission.

        Priority decides, then which client has the fewest running sequences, then which was admitted longest ago, then
        arrival. So one client's long queue delays another's first request by one sequence at most, even on one slot.
        """
        load = Counter(sequence.client for sequence in self._running)
        last = self._admissions
        return sorted(self._waiting, key=lambda each: (each.priority, load[each.client], last.get(each.client, 0)))

    def _is_being_computed(self, sequence: Sequence, matched: int) -> bool:
        """Whether somebody else is computing much of this prompt; it is shared as soon as that is done."""
        upto = matched + _SHARED_PREFILL
        return any(
            upto <= other.num_prompt > other.num_computed and other.tokens[:upto] == sequence.tokens[:upto]
            for other in self._running
            if upto < len(sequence.tokens)
        )

    def update(self, step: Step, sampled: list[list[int]]) -> list[Progress]:
        """Takes in a computed step. `sampled[i]`: the guesses of `step.chunks[i]` that the sampler would have drawn,
        then the token it did draw; empty where none is wanted. Sequences that end here have left.
        """
        for chunk in step.chunks:  # all of them first: sharing, below, asks how many cells are free
            chunk.sequence.num_computed = chunk.start + len(chunk.tokens)
        progress = []
        for chunk, tokens in zip(step.chunks, sampled, strict=True):
            if chunk.wants_token:
                progress.append(self._take(chunk, tokens))
            elif chunk.sequence.num_computed == self._stop_before(chunk.sequence):
                self._share(chunk.sequence)
        return progress

    def _stop_before(self, sequence: Sequence) -> int | None:
        """Where reading a prompt pauses for a checkpoint: one token must be left for whoever asks the same again."""
        return None if self._limits.supports_partial_removal else sequence.num_prompt - 1

    def _take(self, chunk: Chunk, tokens: list[int]) -> Progress:
        sequence, num_accepted = chunk.sequence, len(tokens) - 1
        assert sequence.lease is not None
        if num_accepted < chunk.num_draft:
            sequence.num_computed -= chunk.num_draft - num_accepted
            self._cache.operations.append(Remove(sequence.lease.slot, sequence.num_computed))
        shown = self._append(sequence, tokens)
        if sequence.finish_reason is not None:
            self._leave(sequence)
        elif sequence.lease.num_cached < sequence.num_prompt - 1:
            self._share(sequence)
        return Progress(sequence, shown, sequence.finish_reason)

    def _append(self, sequence: Sequence, tokens: list[int]) -> list[int]:
        """Those that are part of the answer; says why it ends, if it does."""
        shown: list[int] = []
        for token in tokens:
            if token in self._end_tokens:
                sequence.finish_reason = FinishReason.STOP
                break
            shown.append(token)
            sequence.tokens.append(token)
            if len(sequence.tokens) >= self._limits.n_ctx or sequence.num_generated >= sequence.max_tokens:
                sequence.finish_reason = FinishReason.LENGTH
                break
        return shown

    def _leave(self, sequence: Sequence, num_promised: int = 0) -> None:
        """Out of service; what it has computed is shared. `num_promised`: free cells that are somebody's already."""
        assert sequence.lease is not None
        self._share(sequence, num_promised)
        self._running.remove(sequence)
        self._cache.release(sequence.lease)
        sequence.lease, sequence.num_computed = None, 0

    def _share(self, sequence: Sequence, num_promised: int = 0) -> None:
        if sequence.num_computed > len(sequence.tokens) and not self._limits.supports_partial_removal:
            return  # its state has read an end token, which is not part of it
        computed = sequence.tokens[: sequence.num_computed]
        if sequence.lease and len(computed) > sequence.lease.num_cached:
            self._cache.commit(sequence.lease, computed, self.num_free_cells - num_promised)

    def check_integrity(self) -> None:
        """Slots, leases and cells are each counted once."""
        leases = [sequence.lease for sequence in self._running]
        assert None not in leases
        self._cache.check_integrity([lease for lease in leases if lease])
        assert len(self._running) <= self._limits.n_slots
        assert all(sequence.lease is None and sequence.num_computed == 0 for sequence in self._waiting)
        assert 0 <= self.num_free_cells <= self._limits.n_cells
        for sequence in (*self._running, *self._waiting):
            assert 0 <= sequence.num_computed < len(sequence.tokens) < self._limits.n_ctx
            assert sequence.finish_reason is None
