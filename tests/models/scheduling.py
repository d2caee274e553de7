"""A scheduler beside a model of llama.cpp's memory: what tests and scripts/prove/scheduler.py drive."""

import zlib
from collections import Counter
from collections.abc import Callable, Collection
from random import Random
from typing import NamedTuple

import numpy as np

from models.llm.constraints.constraint import Choices
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step import Limits, ScheduledChunk, Step
from models.llm.kv.base import State
from models.llm.kv.offload import KVOffload, OffloadedPrefix
from models.llm.kv.prefix_cache import CopyCells, MemoryOperation, RemoveCells
from models.llm.kv.prefixes import restore, token_array
from models.llm.params import Priority, SamplingParams

END, WORD = 0, 7
Next = Callable[[list[int]], int]


def never_ends(_: list[int]) -> int:
    return WORD


def scrambled(tokens: list[int]) -> int:
    """Depends on every token read so far."""
    return 1 + zlib.crc32(repr(tokens).encode()) % 99


def repetitive(tokens: list[int]) -> int:
    """Depends on every token too, but often repeats itself, so that some guesses hold, and now and then ends."""
    chance = zlib.crc32(repr(tokens).encode())
    return END if chance % 29 == 0 else 1 + (sum(tokens[-2:]) + (chance % 5 == 0)) % 3


def draw(next_token: Next, tokens: list[int], allowed: Collection[int] | None) -> int:
    token = next_token(tokens)
    return token if allowed is None or token in allowed else list(allowed)[token % len(allowed)]


class Cell:
    """One token's place in memory, which any number of slots may own."""

    def __init__(self, token: int) -> None:
        self.token = token


class Memory:
    """Stands for llama.cpp: the next token comes from the cells a slot owns, not from those it should own."""

    def __init__(self, limits: Limits, next_token: Next) -> None:
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
        self.check()
        return sampled

    def check(self) -> None:
        assert len({cell for slot in self.slots.values() for cell in slot.values()}) <= self._limits.n_cells

    def read(self, slot: int) -> list[int]:
        """The tokens a slot has in memory."""
        return [self.slots[slot][at].token for at in range(len(self.slots[slot]))]

    def save(self, slot: int) -> State:
        return token_array(self.read(slot)).tobytes()

    def load(self, slot: int, state: State) -> bool:
        assert not self.slots[slot]
        self.slots[slot] = {at: Cell(token) for at, token in enumerate(np.frombuffer(state, np.int32).tolist())}
        self.check()
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
        assert sorted(cells) == list(range(start)), "llama.cpp wants the position after the last"
        assert start + len(tokens) < self._limits.n_ctx
        cells |= {start + i: Cell(token) for i, token in enumerate(tokens)}
        read = [cells[at].token for at in range(len(cells))]
        assert read[: len(read) - num_draft] == sequence.tokens[: len(read) - num_draft]
        drawn: list[int] = []
        for guess in [*tokens[len(tokens) - num_draft :], None] if wants_token else []:
            known = read[: len(read) - num_draft + len(drawn)]
            drawn.append(draw(self._next_token, known, sequence.allowed(drawn)))
            if drawn[-1] != guess:
                break
        return drawn


class Answer(NamedTuple):
    tokens: list[int]
    finish_reason: FinishReason | None


def answer_alone(sequence: Sequence, n_ctx: int, next_token: Next) -> Answer:
    """What the model would say with nobody else around, one token at a time."""
    tokens, answer = sequence.tokens[: sequence.num_prompt], list[int]()
    while True:
        allowed = sequence.constraint.after(answer) if sequence.constraint else None
        token = draw(next_token, tokens + answer, allowed)
        if token == END:
            return Answer(answer, FinishReason.STOP)
        answer.append(token)
        if len(answer) == sequence.max_tokens or len(tokens + answer) == n_ctx:
            return Answer(answer, FinishReason.LENGTH)


def answer_of(sequence: Sequence) -> Answer:
    return Answer(sequence.tokens[sequence.num_prompt :], sequence.finish_reason)


class World:
    """Requests that come, go, are computed, fail and end, in any order: everyone gets the answer they would have had
    alone. Every method checks what must hold at all times."""

    manual = [1 + zlib.crc32(bytes([i])) % 3 for i in range(60)]

    def __init__(self, limits: Limits, *, max_offloaded: int = 0, max_idle_cells: int = 0) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits, frozenset({END}))
        self.memory = Memory(limits, repetitive)
        self.offload = KVOffload(
            self.scheduler, self.memory, max_offloaded, max_idle_cells=max_idle_cells, min_tokens=2
        )
        self.live: list[Sequence] = []
        self.beginnings = [[], self.manual[:4], self.manual[:40], self.manual]  # of prompts; then whatever was said
        self.saved: list[OffloadedPrefix] = []  # prefixes on disk
        self.counts: Counter[str] = Counter()
        self._in_line: Counter[Sequence] = Counter()  # steps since each was last running
        self._count_moves()

    def _count_moves(self) -> None:
        cache = self.scheduler._cache
        evict, load = cache.evict, self.memory.load

        def counted() -> bool:
            has_evicted = evict()
            self.counts["prefixes evicted"] += has_evicted
            return has_evicted

        def loaded(slot: int, state: State) -> bool:
            self.counts["put back"] += 1
            return load(slot, state)

        cache.evict = counted
        self.memory.load = loaded  # type: ignore[method-assign]

    def sequence(
        self,
        beginning: int,
        rest: list[int],
        max_tokens: int,
        choices: list[list[int]] | None,
        client: str,
        priority: Priority,
    ) -> Sequence:
        """A prompt that begins like an earlier one. As in the engine, memory that cannot be cut gets no guesses, only
        drafts that its constraint leaves no choice about."""
        prompt = self.beginnings[beginning % len(self.beginnings)][: self.limits.n_ctx - 2] + rest
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
        self.live.append(sequence)
        self.beginnings.append(sequence.tokens[: sequence.num_prompt])
        self.check()

    def cancel(self, sequence: Sequence, *, is_trusted: bool) -> None:
        self.live.remove(sequence)
        if is_trusted:
            self.scheduler.remove(sequence)
        else:
            self.scheduler.discard(sequence)
        self.counts["cancelled"] += 1
        self.check()

    def step(self, max_prefill: int | None = None) -> None:
        running = [sequence for sequence in self.live if sequence.lease]
        self.offload.before_step()
        step = self.scheduler.schedule(max_prefill)
        assert step.chunks, "nothing is done though somebody waits"
        assert all(chunk.tokens for chunk in step.chunks)
        self._count(step, running)
        progress = self.scheduler.update(step, self.memory.compute(step))
        assert [each.sequence for each in progress] == [c.sequence for c in step.chunks if c.wants_token]
        for sequence, tokens, finish_reason in progress:
            assert tokens == sequence.tokens[len(sequence.tokens) - len(tokens) :]
            assert finish_reason is sequence.finish_reason
            if finish_reason is not None:
                self._end(sequence)
        self.check()

    def _count(self, step: Step, were_running: list[Sequence]) -> None:
        self.counts["steps"] += 1
        self.counts["preempted"] += sum(sequence.lease is None for sequence in were_running)
        self.counts["drafted tokens"] += sum(chunk.num_draft for chunk in step.chunks)
        self._in_line = Counter({each: self._in_line[each] + 1 for each in self.live if each.lease is None})
        for sequence, num_steps in self._in_line.items():
            name = f"steps in the longest {sequence.priority.name.lower()} wait"
            self.counts[name] = max(self.counts[name], num_steps)

    def _end(self, sequence: Sequence) -> None:
        self.live.remove(sequence)
        self.beginnings.append(sequence.tokens)
        self.counts["ended"] += 1
        self.counts["cached tokens"] += sequence.num_cached or 0
        assert answer_of(sequence) == answer_alone(sequence, self.limits.n_ctx, repetitive)

    def fail(self) -> None:
        """A batch that llama.cpp refused, after it had changed who knows which cells."""
        step = self.scheduler.schedule()
        self.memory.compute(step)
        for chunk in step.chunks:
            self.scheduler.discard(chunk.sequence)
            self.live.remove(chunk.sequence)
        self.counts["failed batches"] += 1
        self.check()

    def save(self, which: int) -> None:
        """A prefix in memory to disk, as the archive does it."""
        prefixes = self.scheduler.prefixes(hot=which % 2 == 0)
        if not prefixes:
            return
        tokens = prefixes[which % len(prefixes)]
        if lease := self.scheduler.borrow_slot(tokens):
            self.memory.apply(self.scheduler.take_operations())
            if lease.num_cached == len(tokens):
                assert self.memory.read(lease.slot) == tokens
                self.saved.append(OffloadedPrefix(token_array(tokens), self.memory.save(lease.slot), is_hot=False))
                self.counts["saved"] += 1
            self.scheduler.return_slot(lease, tokens[: lease.num_cached])
        self.check()

    def restore(self, which: int, num_kept: int) -> None:
        """A prefix from disk to memory; of divisible memory, its first tokens alone."""
        if not self.saved:
            return
        saved = self.saved[which % len(self.saved)]
        prompt = saved.tokens[:num_kept] if self.limits.supports_partial_removal else saved.tokens
        self.counts["restored"] += restore(self.scheduler, self.memory, saved, saved.state, prompt.tolist()) > 0
        self.check()

    def finish(self) -> None:
        """Each step brings whoever is served first a token nearer, and only a more urgent one can come before them."""
        for _ in range(2 * len(self.live) * self.limits.n_ctx):
            if self.live:
                self.step()
        assert not self.live, "somebody waits for ever"

    def check(self) -> None:
        self.scheduler.check_integrity()
        assert self.scheduler.num_running + self.scheduler.num_waiting == len(self.live)
        assert self.scheduler.is_idle == (not self.live)


def random_world(random: Random, *, supports_partial_removal: bool) -> World:
    """Of any size, often with hardly more memory than one sequence takes."""
    n_slots, n_ctx = random.randint(1, 6), random.choice([random.randint(2, 12), random.randint(40, 64)])
    n_cells = (1 if supports_partial_removal else 2) * n_ctx + random.randint(0, random.choice([8, 96]))
    max_offloaded, max_idle_cells = random.choice([0, 40, 400]), random.choice([0, 16])
    limits = Limits(
        n_slots, random.randint(0, 6), n_slots + random.randint(0, 16), n_cells, n_ctx, supports_partial_removal
    )
    return World(limits, max_offloaded=max_offloaded, max_idle_cells=max_idle_cells)


def live(world: World, random: Random, num_steps: int) -> None:
    """So many steps in which anything may happen, and then on until everyone has ended."""
    busyness = random.choice([0.05, 0.2, 0.6])
    for _ in range(num_steps):
        while not world.live or (random.random() < busyness and len(world.live) < 20):
            _come(world, random)
        _happen(world, random)
        if world.live:
            world.step(random.choice([None, 1, 4, 8]))
        del world.beginnings[4:-40], world.saved[:-10]
    world.finish()


def _come(world: World, random: Random) -> None:
    choices = [[random.randint(1, 3) for _ in range(random.randint(0, 6))] for _ in range(random.randint(1, 3))]
    sequence = world.sequence(
        random.randrange(40),
        [random.randint(1, 3) for _ in range(random.randint(1, 8))],
        random.randint(1, 40),
        choices if random.random() < 0.2 else None,
        random.choice("abc"),
        random.choice(list(Priority)),
    )
    if sequence.num_prompt < world.limits.n_ctx:
        world.add(sequence)


def _happen(world: World, random: Random) -> None:
    """Mostly nothing."""
    chance = random.random()
    if chance < 0.02:
        world.cancel(random.choice(world.live), is_trusted=random.random() < 0.5)
    elif chance < 0.025:
        world.fail()
    elif chance < 0.04:
        world.save(random.randrange(20))
    elif chance < 0.05:
        world.restore(random.randrange(20), random.randint(0, 64))
