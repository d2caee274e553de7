"""A scheduler with a simulation of llama.cpp's memory, for tests/models/llm/engine and scripts/prove/scheduler.py."""

import zlib
from collections import Counter
from collections.abc import Callable, Collection
from random import Random
from typing import NamedTuple

import numpy as np

from models.llm.constraints.choices import Choices
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step import Limits, ScheduledChunk, Step
from models.llm.kv.base import State
from models.llm.kv.offload import KVOffload, OffloadedPrefix
from models.llm.kv.prefix_cache import CopyCells, MemoryOperation, RemoveCells
from models.llm.kv.prefixes import restore, token_array
from models.llm.params import Priority, SamplingParams

END, WORD = 0, 7
NextToken = Callable[[list[int]], int]  # from all tokens read so far


def endless(_: list[int]) -> int:
    return WORD


def hash_tokens(tokens: list[int]) -> int:
    """Return a token that depends on every token read so far."""
    return 1 + zlib.crc32(repr(tokens).encode()) % 99


def repetitive(tokens: list[int]) -> int:
    """Return a token that depends on every token too, but repeats itself often, so that some drafts are accepted.

    Now and then it is the end token.
    """
    chance = zlib.crc32(repr(tokens).encode())
    return END if chance % 29 == 0 else 1 + (sum(tokens[-2:]) + (chance % 5 == 0)) % 3


def sample(next_token: NextToken, tokens: list[int], allowed: Collection[int] | None) -> int:
    token = next_token(tokens)
    return token if allowed is None or token in allowed else list(allowed)[token % len(allowed)]


class Cell:
    """The memory of one token, which any number of slots may own."""

    def __init__(self, token: int) -> None:
        self.token = token


class SimulatedRunner:
    """Stands in for llama.cpp. The next token depends on the cells that a slot does own, not on those it should."""

    def __init__(self, limits: Limits, next_token: NextToken) -> None:
        self._limits = limits
        self._next_token = next_token
        self.slots: dict[int, dict[int, Cell]] = {slot: {} for slot in range(limits.num_sequences)}

    def apply(self, operations: list[MemoryOperation]) -> None:
        for operation in operations:
            match operation:
                case CopyCells(source, target, start, end):
                    self._copy(source, target, start, len(self.slots[source]) if end < 0 else end)
                case RemoveCells(slot, start, end):
                    self._remove(slot, start, len(self.slots[slot]) if end < 0 else end)

    def compute(self, step: Step) -> list[list[int]]:
        self.apply(step.operations)
        assert sum(len(chunk.tokens) for chunk in step.chunks) <= self._limits.n_batch
        sampled = [self._compute(chunk) for chunk in step.chunks]
        self.check_capacity()
        return sampled

    def check_capacity(self) -> None:
        assert len({cell for slot in self.slots.values() for cell in slot.values()}) <= self._limits.num_cells

    def read(self, slot: int) -> list[int]:
        """Return the tokens that a slot has in memory."""
        return [self.slots[slot][at].token for at in range(len(self.slots[slot]))]

    def save(self, slot: int) -> State:
        return token_array(self.read(slot)).tobytes()

    def load(self, slot: int, state: State) -> bool:
        assert not self.slots[slot]
        self.slots[slot] = {at: Cell(token) for at, token in enumerate(np.frombuffer(state, np.int32).tolist())}
        self.check_capacity()
        return True

    def _copy(self, source: int, target: int, start: int, end: int) -> None:
        assert self._limits.supports_partial_removal or (start, end, self.slots[target]) == (
            0,
            len(self.slots[source]),
            {},
        )
        self.slots[target] |= {at: self.slots[source][at] for at in range(start, end)}

    def _remove(self, slot: int, start: int, end: int) -> None:
        assert self._limits.supports_partial_removal or start == 0 or start >= len(self.slots[slot])
        self.slots[slot] = {at: cell for at, cell in self.slots[slot].items() if not start <= at < end}

    def _compute(self, chunk: ScheduledChunk) -> list[int]:
        sequence, start, tokens, num_draft, wants_token = chunk
        assert sequence.lease is not None
        cells = self.slots[sequence.lease.slot]
        assert sorted(cells) == list(range(start)), "llama.cpp requires the position after the last"
        assert start + len(tokens) < self._limits.n_ctx
        cells |= {start + i: Cell(token) for i, token in enumerate(tokens)}
        read = [cells[at].token for at in range(len(cells))]
        assert read[: len(read) - num_draft] == sequence.tokens[: len(read) - num_draft]
        sampled: list[int] = []
        for draft_token in [*tokens[len(tokens) - num_draft :], None] if wants_token else []:
            previous = read[: len(read) - num_draft + len(sampled)]
            sampled.append(sample(self._next_token, previous, sequence.allowed_tokens(sampled)))
            if sampled[-1] != draft_token:
                break
        return sampled


class SimulatedAnswer(NamedTuple):
    tokens: list[int]
    finish_reason: FinishReason | None


def answer_alone(sequence: Sequence, n_ctx: int, next_token: NextToken) -> SimulatedAnswer:
    """Return the answer that the model gives without other requests, one token at a time."""
    tokens, answer = sequence.tokens[: sequence.num_prompt], list[int]()
    while True:
        allowed = sequence.constraint.after(answer) if sequence.constraint else None
        token = sample(next_token, tokens + answer, allowed)
        if token == END:
            return SimulatedAnswer(answer, FinishReason.STOP)
        answer.append(token)
        if len(answer) == sequence.max_tokens or len(tokens + answer) == n_ctx:
            return SimulatedAnswer(answer, FinishReason.LENGTH)


def answer_of(sequence: Sequence) -> SimulatedAnswer:
    return SimulatedAnswer(sequence.tokens[sequence.num_prompt :], sequence.finish_reason)


class Simulation:
    """Requests that come, are computed, are cancelled, fail and end, in any order.

    Every method checks what must hold at all times. A request that ends must have the answer that it gets alone.
    """

    manual = [1 + zlib.crc32(bytes([i])) % 3 for i in range(60)]

    def __init__(self, limits: Limits, *, max_offloaded: int = 0, max_idle_cells: int = 0) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits, frozenset({END}))
        self.runner = SimulatedRunner(limits, repetitive)
        self.offload = KVOffload(
            self.scheduler, self.runner, max_offloaded, max_idle_cells=max_idle_cells, min_tokens=2
        )
        self.unfinished: list[Sequence] = []
        self.prefixes = [
            [],
            self.manual[:4],
            self.manual[:40],
            self.manual,
        ]  # prompts begin with one of these; finished answers are appended
        self.stored: list[OffloadedPrefix] = []  # prefixes on disk
        self.counts: Counter[str] = Counter()
        self._num_steps_waiting: Counter[Sequence] = Counter()  # since each was last running
        self._count_operations()

    def _count_operations(self) -> None:
        """Count evictions and loaded states by wrapping the methods."""
        cache = self.scheduler._cache
        evict, load = cache.evict, self.runner.load

        def counting_evict() -> bool:
            has_evicted = evict()
            self.counts["prefixes evicted"] += has_evicted
            return has_evicted

        def counting_load(slot: int, state: State) -> bool:
            self.counts["loaded"] += 1
            return load(slot, state)

        cache.evict = counting_evict
        self.runner.load = counting_load  # type: ignore[method-assign]

    def sequence(
        self,
        prefix: int,
        rest: list[int],
        max_tokens: int,
        choices: list[list[int]] | None,
        client: str,
        priority: Priority,
    ) -> Sequence:
        """Return a sequence whose prompt begins like an earlier one.

        As in the engine, memory that cannot be cut gets no drafts of prompt lookup, but those that a constraint forces.
        """
        prompt = self.prefixes[prefix % len(self.prefixes)][: self.limits.n_ctx - 2] + rest
        constraint = Choices(choices, END) if choices else None
        return Sequence(
            0,
            prompt,
            max_tokens,
            SamplingParams(),
            constraint=constraint,
            client=client,
            priority=priority,
            prompt_lookup=self.limits.supports_partial_removal,
        )

    def add(self, sequence: Sequence) -> None:
        self.scheduler.add(sequence)
        self.unfinished.append(sequence)
        self.prefixes.append(sequence.tokens[: sequence.num_prompt])
        self.check()

    def cancel(self, sequence: Sequence, *, discard: bool) -> None:
        self.unfinished.remove(sequence)
        if discard:
            self.scheduler.discard(sequence)
        else:
            self.scheduler.remove(sequence)
        self.counts["cancelled"] += 1
        self.check()

    def step(self, max_prefill: int | None = None) -> None:
        running = [sequence for sequence in self.unfinished if sequence.lease]
        self.offload.before_step()
        step = self.scheduler.schedule(max_prefill)
        assert step.chunks, "the step is empty although requests wait"
        assert all(chunk.tokens for chunk in step.chunks)
        self._count(step, running)
        outputs = self.scheduler.update(step, self.runner.compute(step))
        assert [each.sequence for each in outputs] == [c.sequence for c in step.chunks if c.wants_token]
        for sequence, tokens, finish_reason in outputs:
            assert tokens == sequence.tokens[len(sequence.tokens) - len(tokens) :]
            assert finish_reason is sequence.finish_reason
            if finish_reason is not None:
                self._end(sequence)
        self.check()

    def _count(self, step: Step, previously_running: list[Sequence]) -> None:
        self.counts["steps"] += 1
        self.counts["preempted"] += sum(sequence.lease is None for sequence in previously_running)
        self.counts["drafted tokens"] += sum(chunk.num_draft for chunk in step.chunks)
        self._num_steps_waiting = Counter(
            {each: self._num_steps_waiting[each] + 1 for each in self.unfinished if each.lease is None}
        )
        for sequence, num_steps in self._num_steps_waiting.items():
            name = f"steps in the longest {sequence.priority.name.lower()} wait"
            self.counts[name] = max(self.counts[name], num_steps)

    def _end(self, sequence: Sequence) -> None:
        self.unfinished.remove(sequence)
        self.prefixes.append(sequence.tokens)
        self.counts["ended"] += 1
        self.counts["cached tokens"] += sequence.num_cached or 0
        assert answer_of(sequence) == answer_alone(sequence, self.limits.n_ctx, repetitive)

    def fail(self) -> None:
        """Fail a batch after the runner has changed its cells, as when llama.cpp refuses it."""
        step = self.scheduler.schedule()
        self.runner.compute(step)
        for chunk in step.chunks:
            self.scheduler.discard(chunk.sequence)
            self.unfinished.remove(chunk.sequence)
        self.counts["failed batches"] += 1
        self.check()

    def store(self, which: int) -> None:
        """Store a prefix that is in memory, as `DiskKVCache` does."""
        prefixes = self.scheduler.prefixes(hot=which % 2 == 0)
        if not prefixes:
            return
        tokens = prefixes[which % len(prefixes)]
        if lease := self.scheduler.borrow_slot(tokens):
            self.runner.apply(self.scheduler.take_operations())
            if lease.num_cached == len(tokens):
                assert self.runner.read(lease.slot) == tokens
                self.stored.append(OffloadedPrefix(token_array(tokens), self.runner.save(lease.slot), is_hot=False))
                self.counts["stored"] += 1
            self.scheduler.return_slot(lease, tokens[: lease.num_cached])
        self.check()

    def restore(self, which: int, num_tokens: int) -> None:
        """Restore a stored prefix; its first `num_tokens` tokens only, where memory can be cut."""
        if not self.stored:
            return
        stored = self.stored[which % len(self.stored)]
        prompt = stored.tokens[:num_tokens] if self.limits.supports_partial_removal else stored.tokens
        self.counts["restored"] += restore(self.scheduler, self.runner, stored, stored.state, prompt.tolist()) > 0
        self.check()

    def finish(self) -> None:
        """Step until all requests have ended, which takes few steps: the first served advances in each of them."""
        for _ in range(2 * len(self.unfinished) * self.limits.n_ctx):
            if self.unfinished:
                self.step()
        assert not self.unfinished, "a request never ends"

    def check(self) -> None:
        self.scheduler.check_integrity()
        assert self.scheduler.num_running + self.scheduler.num_waiting == len(self.unfinished)
        assert self.scheduler.is_idle == (not self.unfinished)


def random_simulation(random: Random, *, supports_partial_removal: bool) -> Simulation:
    """Return a simulation of random size, often with hardly more memory than one sequence takes."""
    num_slots, n_ctx = random.randint(1, 6), random.choice([random.randint(2, 12), random.randint(40, 64)])
    num_cells = (1 if supports_partial_removal else 2) * n_ctx + random.randint(0, random.choice([8, 96]))
    max_offloaded, max_idle_cells = random.choice([0, 40, 400]), random.choice([0, 16])
    limits = Limits(
        num_slots, random.randint(0, 6), num_slots + random.randint(0, 16), num_cells, n_ctx, supports_partial_removal
    )
    return Simulation(limits, max_offloaded=max_offloaded, max_idle_cells=max_idle_cells)


def run_randomly(simulation: Simulation, random: Random, num_steps: int) -> None:
    """Run `num_steps` steps with random events between them, then step until all requests have ended."""
    arrival_rate = random.choice([0.05, 0.2, 0.6])
    for _ in range(num_steps):
        while not simulation.unfinished or (random.random() < arrival_rate and len(simulation.unfinished) < 20):
            _add_request(simulation, random)
        _random_event(simulation, random)
        if simulation.unfinished:
            simulation.step(random.choice([None, 1, 4, 8]))
        del simulation.prefixes[4:-40], simulation.stored[:-10]
    simulation.finish()


def _add_request(simulation: Simulation, random: Random) -> None:
    choices = [[random.randint(1, 3) for _ in range(random.randint(0, 6))] for _ in range(random.randint(1, 3))]
    sequence = simulation.sequence(
        random.randrange(40),
        [random.randint(1, 3) for _ in range(random.randint(1, 8))],
        random.randint(1, 40),
        choices if random.random() < 0.2 else None,
        random.choice("abc"),
        random.choice(list(Priority)),
    )
    if sequence.num_prompt < simulation.limits.n_ctx:
        simulation.add(sequence)


def _random_event(simulation: Simulation, random: Random) -> None:
    """Cancel, fail, store or restore something; in most steps, do nothing."""
    chance = random.random()
    if chance < 0.02:
        simulation.cancel(random.choice(simulation.unfinished), discard=random.random() < 0.5)
    elif chance < 0.025:
        simulation.fail()
    elif chance < 0.04:
        simulation.store(random.randrange(20))
    elif chance < 0.05:
        simulation.restore(random.randrange(20), random.randint(0, 64))
