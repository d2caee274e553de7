import itertools
from collections import Counter
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from models.llm.constraints.constraint import Choices
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step import Limits, SequenceOutput, Step
from models.llm.params import Priority, SamplingParams
from tests.models.scheduling import (
    END,
    WORD,
    Answer,
    Memory,
    Next,
    World,
    answer_alone,
    answer_of,
    live,
    never_ends,
    random_world,
    scrambled,
)


class Run:
    """A scheduler and the memory it fills, one step at a time. Without guesses unless asked for."""

    def __init__(
        self,
        *,
        n_slots: int = 1,
        n_cached: int = 8,
        n_batch: int = 8,
        n_cells: int = 64,
        n_ctx: int = 32,
        supports_partial_removal: bool = True,
        next_token: Next = never_ends,
    ) -> None:
        self._limits = Limits(n_slots, n_cached, n_batch, n_cells, n_ctx, supports_partial_removal)
        self._next_token = next_token
        self._fresh = itertools.count(100)
        self._memory = Memory(self._limits, next_token)
        self.scheduler = Scheduler(self._limits, frozenset({END}))
        self.progress: list[SequenceOutput] = []

    def fresh(self, num_tokens: int) -> list[int]:
        """Tokens nobody has used yet."""
        return list(itertools.islice(self._fresh, num_tokens))

    def add(
        self,
        prompt: int | list[int],
        max_tokens: int = 100,
        *,
        client: str = "",
        priority: Priority = Priority.INTERACTIVE,
        choices: list[list[int]] | None = None,
        prompt_lookup: bool = False,
    ) -> Sequence:
        sequence = Sequence(
            0,
            self.fresh(prompt) if isinstance(prompt, int) else prompt,
            max_tokens,
            SamplingParams(),
            constraint=Choices(choices, END) if choices else None,
            client=client,
            priority=priority,
            prompt_lookup=prompt_lookup,
        )
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[tuple[Sequence, int]]:
        """Who was given how many tokens."""
        step = self.scheduler.schedule()
        self.progress = self.scheduler.update(step, self._memory.compute(step))
        self.scheduler.check_integrity()
        return [(chunk.sequence, len(chunk.tokens)) for chunk in step.chunks]

    def finish(self) -> int:
        """The number of steps it took."""
        for num_steps in itertools.count():
            if self.scheduler.is_idle:
                return num_steps
            assert self.step()
        raise AssertionError

    def alone(self, sequence: Sequence) -> Answer:
        return answer_alone(sequence, self._limits.n_ctx, self._next_token)


@pytest.mark.parametrize(
    ("num_tokens", "sizes"),
    [(1, [1, 1]), (3, [3, 1]), (4, [4, 1]), (5, [4, 1, 1]), (10, [4, 4, 2, 1]), (12, [4, 4, 4, 1])],
)
def test_a_prompt_is_read_in_batches_then_one_token_a_step(num_tokens: int, sizes: list[int]) -> None:
    run = Run(n_batch=4)
    sequence = run.add(num_tokens)
    for size in sizes:
        assert run.step() == [(sequence, size)]


def test_only_a_step_that_catches_up_brings_a_token() -> None:
    run = Run(n_batch=4)
    sequence = run.add(10)
    brought = [(run.step(), run.progress)[1] for _ in range(4)]
    assert brought == [[], [], [SequenceOutput(sequence, [WORD], None)], [SequenceOutput(sequence, [WORD], None)]]


def test_a_long_prompt_is_read_beside_decoding() -> None:
    run = Run(n_slots=3, n_batch=4)
    talking = run.add(2)
    run.step()
    reading = run.add(7)
    assert run.step() == [(talking, 1), (reading, 3)]
    assert run.step() == [(talking, 1), (reading, 3)]
    assert run.step() == [(talking, 1), (reading, 1)]
    assert run.step() == [(talking, 1), (reading, 1)]
    assert reading.num_generated == 2


def test_short_prompts_share_a_step() -> None:
    run = Run(n_slots=4, n_batch=8)
    first, second, third = run.add(3), run.add(3), run.add(3)
    assert run.step() == [(first, 3), (second, 3), (third, 2)]
    assert run.step() == [(first, 1), (second, 1), (third, 1)]


@pytest.mark.parametrize(
    ("n_slots", "n_batch", "n_cells", "prompts", "num_running"),
    [
        pytest.param(2, 64, 64, [4, 4, 4], 2, id="slots"),
        pytest.param(3, 8, 64, [4, 4, 4], 2, id="batch"),
        pytest.param(3, 64, 16, [6, 6, 6], 2, id="cells"),
        pytest.param(3, 64, 16, [8, 7], 1, id="cells for those who run already"),
        pytest.param(3, 64, 16, [10, 7, 1], 1, id="whoever is next"),
    ],
)
def test_admission_is_bounded_by(
    n_slots: int, n_batch: int, n_cells: int, prompts: list[int], num_running: int
) -> None:
    run = Run(n_slots=n_slots, n_batch=n_batch, n_cells=n_cells, n_ctx=16)
    sequences = [run.add(num_tokens) for num_tokens in prompts]
    assert [sequence for sequence, _ in run.step()] == sequences[:num_running]
    assert (run.scheduler.num_running, run.scheduler.num_waiting) == (num_running, len(prompts) - num_running)


def test_a_finished_sequence_makes_room_for_the_next() -> None:
    run = Run()
    first, second = run.add(3, max_tokens=1), run.add(4)
    assert run.step() == [(first, 3)]
    assert run.step() == [(second, 4)]


@pytest.mark.parametrize(
    ("num_tokens", "max_tokens", "end_at", "num_generated", "reason"),
    [
        pytest.param(3, 100, 6, 3, FinishReason.STOP, id="end token"),
        pytest.param(3, 100, 3, 0, FinishReason.STOP, id="end token at once"),
        pytest.param(3, 3, 6, 3, FinishReason.LENGTH, id="max_tokens before the end token"),
        pytest.param(3, 2, None, 2, FinishReason.LENGTH, id="max_tokens"),
        pytest.param(3, 1, None, 1, FinishReason.LENGTH, id="one token"),
        pytest.param(3, 100, None, 7, FinishReason.LENGTH, id="n_ctx"),
        pytest.param(9, 100, None, 1, FinishReason.LENGTH, id="prompt one short of n_ctx"),
    ],
)
@pytest.mark.parametrize("prompt_lookup", [False, True], ids=["", "guessing"])
def test_finishing(
    num_tokens: int, max_tokens: int, end_at: int | None, num_generated: int, reason: FinishReason, prompt_lookup: bool
) -> None:
    run = Run(n_cells=10, n_ctx=10, next_token=lambda tokens: END if len(tokens) == end_at else WORD)
    sequence = run.add(num_tokens, max_tokens, prompt_lookup=prompt_lookup)
    shown: list[int] = []
    while not run.scheduler.is_idle:
        run.step()
        shown += [token for progress in run.progress for token in progress.tokens]
    assert run.progress[-1].finish_reason is reason
    assert answer_of(sequence) == (shown, reason) == ([WORD] * num_generated, reason)


class TestWhenCellsRunOut:
    def test_the_last_yields_and_the_first_keeps_going(self) -> None:
        run = Run(n_slots=3, n_batch=16, n_cells=16, n_ctx=16)
        first, second, last = run.add(5), run.add(5), run.add(3)
        assert run.step() == [(first, 5), (second, 5), (last, 3)]
        assert run.step() == [(first, 1), (second, 1), (last, 1)]
        assert run.step() == [(first, 1), (second, 1)]
        assert (last.lease, last.num_computed, last.num_generated) == (None, 0, 2)
        while first.finish_reason is None:
            num_generated = first.num_generated
            run.step()
            assert first.num_generated == num_generated + 1

    def test_who_yielded_resumes_with_all_tokens_and_ends_with_the_right_text(self) -> None:
        run = Run(n_slots=2, n_batch=4, n_cells=14, n_ctx=12, next_token=scrambled)
        first, last = run.add(5), run.add(5)
        yielded_with = 0
        while not run.scheduler.is_idle:
            run.step()
            if last.lease is None and last.finish_reason is None:
                yielded_with = max(yielded_with, last.num_generated)
        assert yielded_with > 0
        assert answer_of(first) == run.alone(first)
        assert answer_of(last) == run.alone(last)

    def test_who_yielded_comes_back_before_who_came_later(self) -> None:
        run = Run(n_slots=2, n_batch=8, n_cells=12, n_ctx=12)
        first, second, third = run.add(4), run.add(4), run.add(4)
        while second.finish_reason is None:
            run.step()
            assert third.lease is None or second.lease is not None
        assert first.finish_reason is not None

    def test_a_cached_prefix_goes_before_anybody_yields(self) -> None:
        run = Run(n_slots=2, n_batch=8, n_cells=12, n_ctx=12)
        run.add(5, max_tokens=1)
        run.finish()
        first, second = run.add(3, max_tokens=3), run.add(3, max_tokens=3)
        assert run.finish() == 3
        assert answer_of(first) == answer_of(second) == ([WORD] * 3, FinishReason.LENGTH)

    def test_batch_work_yields_to_a_conversation_that_came_later(self) -> None:
        run = Run(n_slots=2, n_batch=16, n_cells=12, n_ctx=12)
        patient = run.add(4, priority=Priority.BATCH)
        run.step()
        urgent = run.add(4)
        while urgent.finish_reason is None:
            run.step()
        assert patient.finish_reason is None
        run.finish()
        assert answer_of(patient) == run.alone(patient)

    @pytest.mark.parametrize("supports_partial_removal", [True, False])
    def test_a_keystroke_does_not_wait_for_a_slot(self, supports_partial_removal: bool) -> None:
        run = Run(
            n_slots=2,
            n_batch=16,
            n_cells=64,
            n_ctx=20,
            supports_partial_removal=supports_partial_removal,
            next_token=scrambled,
        )
        conversations = [run.add(4), run.add(4)]
        run.step()
        typed = run.add(4, max_tokens=3, priority=Priority.TYPING)
        assert typed in [sequence for sequence, _ in run.step()]
        assert conversations[0].lease is not None
        assert conversations[1].lease is None
        run.finish()
        for sequence in (*conversations, typed):
            assert answer_of(sequence) == run.alone(sequence)

    def test_a_keystroke_does_not_wait_for_cells(self) -> None:
        run = Run(n_slots=3, n_batch=16, n_cells=20, n_ctx=20, next_token=scrambled)
        conversations = [run.add(8), run.add(8)]
        run.step()
        typed = run.add(8, max_tokens=3, priority=Priority.TYPING)
        assert typed in [sequence for sequence, _ in run.step()]
        run.finish()
        for sequence in (*conversations, typed):
            assert answer_of(sequence) == run.alone(sequence)

    def test_nobody_gives_way_to_their_equals(self) -> None:
        run = Run(n_slots=1)
        first, second = run.add(2, max_tokens=4), run.add(2, max_tokens=4)
        assert [run.step()[0][0] for _ in range(5)] == [first] * 4 + [second]

    def test_a_checkpoint_of_who_yields_takes_no_cell_that_the_step_has_promised(self) -> None:
        run = Run(
            n_slots=3, n_cached=2, n_batch=16, n_cells=20, n_ctx=9, supports_partial_removal=False, next_token=scrambled
        )
        shared = run.fresh(3)
        sequences = [run.add(2, 7, priority=Priority.BATCH)]
        sequences += [run.add([*shared[:1], *run.fresh(2)], 7, priority=Priority.BATCH)]
        for _ in range(4):
            run.step()
        sequences += [run.add([*shared[:1], *run.fresh(2)], 8, priority=Priority.BATCH)]
        sequences += [run.add([*shared, *run.fresh(2)], 7)]
        run.finish()
        assert [answer_of(sequence) for sequence in sequences] == [run.alone(sequence) for sequence in sequences]


class TestCancelling:
    @pytest.mark.parametrize("num_steps", [0, 1, 3], ids=["in the queue", "in prefill", "in decode"])
    def test_frees_the_slot_and_the_cells(self, num_steps: int) -> None:
        run = Run(n_batch=4, n_cells=16, n_ctx=16)
        cancelled = run.add(7)
        for _ in range(num_steps):
            run.step()
        run.scheduler.remove(cancelled)
        run.scheduler.check_integrity()
        assert run.scheduler.is_idle
        following = run.add(15)
        run.finish()
        assert answer_of(following) == ([WORD], FinishReason.LENGTH)

    def test_of_who_has_yielded_leaves_nothing_behind(self) -> None:
        run = Run(n_slots=2, n_batch=8, n_cells=8, n_ctx=8)
        first, last = run.add(3), run.add(3)
        while last.lease is not None or last.num_generated == 0:
            run.step()
        run.scheduler.remove(last)
        run.finish()
        assert first.finish_reason is FinishReason.LENGTH
        assert last.finish_reason is None

    def test_twice_is_harmless(self) -> None:
        run = Run(n_slots=2)
        cancelled, other = run.add(3), run.add(1)
        run.step()
        run.scheduler.remove(cancelled)
        run.scheduler.remove(cancelled)
        run.scheduler.check_integrity()
        assert run.step() == [(other, 1)]

    def test_keeps_what_was_computed(self) -> None:
        run = Run(n_batch=4)
        cancelled = run.add(9)
        run.step()
        run.scheduler.remove(cancelled)
        again = run.add(cancelled.tokens)
        assert run.step() == [(again, 4)]
        assert again.num_cached == 4

    def test_discarding_keeps_nothing_of_what_was_not_shared_yet(self) -> None:
        run = Run(n_batch=4)
        discarded = run.add(9)
        run.step()
        run.scheduler.discard(discarded)
        run.scheduler.check_integrity()
        again = run.add(discarded.tokens)
        run.step()
        assert again.num_cached == 0


class TestPrefixes:
    def test_a_second_turn_computes_only_what_is_new(self) -> None:
        run = Run(n_batch=16, next_token=scrambled)
        first = run.add(10, max_tokens=3)
        run.finish()
        second = run.add([*first.tokens, *run.fresh(4)], max_tokens=2)
        assert run.step() == [(second, 5)]  # the last token of an answer is never computed
        assert second.num_cached == 12
        run.finish()
        assert answer_of(second) == run.alone(second)

    def test_the_same_question_again_computes_its_last_token(self) -> None:
        run = Run(n_batch=16, next_token=scrambled)
        first = run.add(10, max_tokens=3)
        run.finish()
        again = run.add(first.tokens[:10], max_tokens=3)
        assert run.step() == [(again, 1)]
        run.finish()
        assert answer_of(again) == answer_of(first)

    def test_who_goes_on_from_one_that_still_runs_takes_nothing_from_it(self) -> None:
        run = Run(n_slots=2, n_batch=16, next_token=scrambled)
        first = run.add(10, max_tokens=8)
        run.step()
        second = run.add([*first.tokens[:10], *run.fresh(4)], max_tokens=2)
        assert run.step() == [(first, 1), (second, 4)]
        run.finish()
        assert [answer_of(first), answer_of(second)] == [run.alone(first), run.alone(second)]

    def test_a_long_prompt_waits_for_the_one_that_is_computing_its_beginning(self) -> None:
        run = Run(n_slots=3, n_batch=32, n_cells=256, n_ctx=128)
        manual = run.fresh(64)
        first, second, other = run.add([*manual, 1]), run.add([*manual, 2]), run.add(5)
        assert run.step() == [(first, 32)]
        assert run.step() == [(first, 32)]
        assert run.step() == [(first, 1), (other, 5)]
        assert run.step() == [(first, 1), (other, 1), (second, 1)]
        assert second.num_cached == 64

    def test_a_short_common_beginning_is_not_waited_for(self) -> None:
        run = Run(n_slots=2, n_batch=64)
        shared = run.fresh(10)
        first, second = run.add([*shared, 1]), run.add([*shared, 2])
        assert run.step() == [(first, 11), (second, 11)]


class TestTheQueue:
    def test_conversations_go_before_batch_work(self) -> None:
        run = Run()
        run.add(2, max_tokens=1)
        run.step()
        batch, conversation = run.add(2, max_tokens=1, priority=Priority.BATCH), run.add(2, max_tokens=1)
        assert run.step() == [(conversation, 2)]
        assert run.step() == [(batch, 2)]

    def test_clients_take_turns(self) -> None:
        run = Run(n_slots=2)
        first, _, other = run.add(2, client="a"), run.add(2, client="a"), run.add(2, client="b")
        assert run.step() == [(first, 2), (other, 2)]

    def test_within_a_client_the_first_to_come_is_served_first(self) -> None:
        run = Run(n_batch=8)
        sequences = [run.add(2, max_tokens=1, client="a") for _ in range(4)]
        assert [run.step()[0][0] for _ in sequences] == sequences


class TestGuesses:
    def test_those_that_hold_bring_several_tokens_in_a_step(self) -> None:
        prompt = [1, 2, 3, 4, 5, 6, 1, 2]
        counting = Run(next_token=lambda tokens: tokens[-1] % 6 + 1)
        sequence = counting.add(prompt, max_tokens=16, prompt_lookup=True)
        assert counting.finish() < 8
        assert answer_of(sequence) == counting.alone(sequence)

    def test_those_that_do_not_hold_change_nothing(self) -> None:
        run = Run(n_slots=2, next_token=scrambled)
        sequences = [run.add([1, 2, 3, 1, 2, 3, 1, 2], max_tokens=16, prompt_lookup=True) for _ in range(2)]
        run.finish()
        assert [answer_of(sequence) for sequence in sequences] == [run.alone(sequence) for sequence in sequences]

    def test_the_only_way_a_choice_can_go_on_takes_one_step(self) -> None:
        run = Run()
        sequence = run.add(3, choices=[[1, 2, 3, 4], [5, 6]])
        assert run.finish() == 2
        assert answer_of(sequence) == run.alone(sequence)
        assert sequence.finish_reason is FinishReason.STOP

    def test_a_full_batch_leaves_no_room_for_them(self) -> None:
        run = Run(n_slots=2, n_batch=2)
        sequences = [run.add([WORD] * 4, prompt_lookup=True) for _ in range(2)]
        for _ in range(8):
            assert sum(size for _, size in run.step()) <= 2
        assert all(set(sequence.tokens) == {WORD} for sequence in sequences)


def test_an_idle_scheduler_gives_an_empty_step() -> None:
    assert Run().scheduler.schedule() == Step([], [])


def test_a_context_larger_than_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="n_ctx"):
        Scheduler(Limits(n_slots=1, n_cached=0, n_batch=4, n_cells=15, n_ctx=16), frozenset())


def test_a_sequence_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Sequence(0, [], 1, SamplingParams())


@pytest.mark.parametrize("num_tokens", [32, 33])
def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(num_tokens: int) -> None:
    run = Run(n_ctx=32)
    with pytest.raises(ValueError, match="room"):
        run.add(num_tokens)
    assert run.scheduler.is_idle


class SchedulerMachine(RuleBasedStateMachine):
    """Any order of adding, cancelling and stepping: everyone ends, with the answer they would have had alone."""

    supports_partial_removal = True

    @initialize(
        n_slots=st.integers(1, 4),
        n_cached=st.integers(0, 3),
        more_batch=st.integers(0, 12),
        n_ctx=st.integers(2, 12) | st.integers(40, 64),
        more_cells=st.integers(0, 64),
    )
    def start(self, n_slots: int, n_cached: int, more_batch: int, n_ctx: int, more_cells: int) -> None:
        n_cells = (1 if self.supports_partial_removal else 2) * n_ctx + more_cells
        self.world = World(
            Limits(n_slots, n_cached, n_slots + more_batch, n_cells, n_ctx, self.supports_partial_removal)
        )

    @rule(
        beginning=st.integers(0, 20),
        rest=st.lists(st.integers(1, 3), min_size=1, max_size=8),
        max_tokens=st.integers(1, 40),
        choices=st.none() | st.lists(st.lists(st.integers(1, 3), max_size=6), min_size=1, max_size=3),
        client=st.sampled_from("ab"),
        priority=st.sampled_from(Priority),
    )
    def add(
        self,
        beginning: int,
        rest: list[int],
        max_tokens: int,
        choices: list[list[int]] | None,
        client: str,
        priority: Priority,
    ) -> None:
        sequence = self.world.sequence(beginning, rest, max_tokens, choices, client, priority)
        if sequence.num_prompt >= self.world.limits.n_ctx:
            with pytest.raises(ValueError, match="room"):
                self.world.scheduler.add(sequence)
        else:
            self.world.add(sequence)

    @precondition(lambda self: self.world.live)
    @rule(data=st.data(), is_trusted=st.booleans())
    def cancel(self, data: st.DataObject, is_trusted: bool) -> None:
        self.world.cancel(data.draw(st.sampled_from(self.world.live)), is_trusted=is_trusted)

    @precondition(lambda self: self.world.live)
    @rule(max_prefill=st.none() | st.integers(1, 8))
    def step(self, max_prefill: int | None) -> None:
        self.world.step(max_prefill)

    @precondition(lambda self: self.world.live)
    @rule()
    def fail(self) -> None:
        self.world.fail()

    @rule(which=st.integers(0, 20))
    def save(self, which: int) -> None:
        self.world.save(which)

    @rule(which=st.integers(0, 20), num_kept=st.integers(0, 64))
    def restore(self, which: int, num_kept: int) -> None:
        self.world.restore(which, num_kept)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


class IndivisibleMachine(SchedulerMachine):
    """With the memory of a recurrent model, which is copied and emptied whole."""

    supports_partial_removal = False


SETTINGS = settings(max_examples=100, stateful_step_count=40, deadline=None)
SchedulerMachine.TestCase.settings = IndivisibleMachine.TestCase.settings = SETTINGS
TestAnyOrderOfAddingCancellingAndStepping = SchedulerMachine.TestCase
TestAnyOrderWithIndivisibleMemory = IndivisibleMachine.TestCase


@pytest.mark.parametrize("supports_partial_removal", [True, False], ids=["", "indivisible"])
def test_thousands_of_steps_in_worlds_of_any_size(supports_partial_removal: bool) -> None:
    """scripts/prove/scheduler.py goes on to a million."""
    happened = Counter[str]()
    for seed in range(10):
        random = Random(seed)
        world = random_world(random, supports_partial_removal=supports_partial_removal)
        live(world, random, 1000)
        happened += world.counts
    assert happened["ended"] > 1000
    assert min(happened[name] for name in ("preempted", "drafted tokens", "saved", "restored", "failed batches")) > 0
    assert supports_partial_removal == (happened["put back"] > happened["restored"])
