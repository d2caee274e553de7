"""The scheduler with a simulation of llama.cpp's memory, one case at a time."""

import itertools

import pytest

from models.llm.constraints.choices import Choices
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step import Limits, SequenceOutput, Step
from models.llm.params import Priority, SamplingParams
from tests.models.scheduler_simulation import (
    END,
    WORD,
    NextToken,
    SimulatedAnswer,
    SimulatedRunner,
    answer_alone,
    answer_of,
    endless,
    hash_tokens,
)


class SchedulerRun:
    """A scheduler and its simulated runner, one step at a time. Prompt lookup is off unless a sequence wants it."""

    def __init__(
        self,
        *,
        num_slots: int = 1,
        num_cached_prefixes: int = 8,
        n_batch: int = 8,
        num_cells: int = 64,
        n_ctx: int = 32,
        supports_partial_removal: bool = True,
        next_token: NextToken = endless,
    ) -> None:
        self._limits = Limits(num_slots, num_cached_prefixes, n_batch, num_cells, n_ctx, supports_partial_removal)
        self._next_token = next_token
        self._unused_tokens = itertools.count(100)
        self._runner = SimulatedRunner(self._limits, next_token)
        self.scheduler = Scheduler(self._limits, frozenset({END}))
        self.outputs: list[SequenceOutput] = []

    def new_tokens(self, num_tokens: int) -> list[int]:
        """Return tokens that no sequence has used yet."""
        return list(itertools.islice(self._unused_tokens, num_tokens))

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
            self.new_tokens(prompt) if isinstance(prompt, int) else prompt,
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
        """Compute a step; return each scheduled sequence with its number of tokens."""
        step = self.scheduler.schedule()
        self.outputs = self.scheduler.update(step, self._runner.compute(step))
        self.scheduler.check_integrity()
        return [(chunk.sequence, len(chunk.tokens)) for chunk in step.chunks]

    def finish(self) -> int:
        """Step until idle; return the number of steps."""
        for num_steps in itertools.count():
            if self.scheduler.is_idle:
                return num_steps
            assert self.step()
        raise AssertionError

    def answer_alone(self, sequence: Sequence) -> SimulatedAnswer:
        return answer_alone(sequence, self._limits.n_ctx, self._next_token)


@pytest.mark.parametrize(
    ("num_tokens", "sizes"),
    [(1, [1, 1]), (3, [3, 1]), (4, [4, 1]), (5, [4, 1, 1]), (10, [4, 4, 2, 1]), (12, [4, 4, 4, 1])],
)
def test_prefill_takes_whole_batches_then_decode_one_token_a_step(num_tokens: int, sizes: list[int]) -> None:
    run = SchedulerRun(n_batch=4)
    sequence = run.add(num_tokens)
    for size in sizes:
        assert run.step() == [(sequence, size)]


def test_a_step_outputs_a_token_only_when_prefill_is_complete() -> None:
    run = SchedulerRun(n_batch=4)
    sequence = run.add(10)
    outputs = [(run.step(), run.outputs)[1] for _ in range(4)]
    assert outputs == [[], [], [SequenceOutput(sequence, [WORD], None)], [SequenceOutput(sequence, [WORD], None)]]


def test_prefill_is_chunked_beside_decoding() -> None:
    run = SchedulerRun(num_slots=3, n_batch=4)
    decoding = run.add(2)
    run.step()
    prefilling = run.add(7)
    assert run.step() == [(decoding, 1), (prefilling, 3)]
    assert run.step() == [(decoding, 1), (prefilling, 3)]
    assert run.step() == [(decoding, 1), (prefilling, 1)]
    assert run.step() == [(decoding, 1), (prefilling, 1)]
    assert prefilling.num_generated == 2


def test_short_prompts_are_prefilled_in_one_step() -> None:
    run = SchedulerRun(num_slots=4, n_batch=8)
    first, second, third = run.add(3), run.add(3), run.add(3)
    assert run.step() == [(first, 3), (second, 3), (third, 2)]
    assert run.step() == [(first, 1), (second, 1), (third, 1)]


@pytest.mark.parametrize(
    ("num_slots", "n_batch", "num_cells", "prompts", "num_running"),
    [
        pytest.param(2, 64, 64, [4, 4, 4], 2, id="slots"),
        pytest.param(3, 8, 64, [4, 4, 4], 2, id="batch"),
        pytest.param(3, 64, 16, [6, 6, 6], 2, id="cells"),
        pytest.param(3, 64, 16, [8, 7], 1, id="cells that running sequences take next"),
        pytest.param(3, 64, 16, [10, 7, 1], 1, id="the first in the queue"),
    ],
)
def test_admission_is_limited_by_slots_cells_and_batch(
    num_slots: int, n_batch: int, num_cells: int, prompts: list[int], num_running: int
) -> None:
    run = SchedulerRun(num_slots=num_slots, n_batch=n_batch, num_cells=num_cells, n_ctx=16)
    sequences = [run.add(num_tokens) for num_tokens in prompts]
    assert [sequence for sequence, _ in run.step()] == sequences[:num_running]
    assert (run.scheduler.num_running, run.scheduler.num_waiting) == (num_running, len(prompts) - num_running)


def test_a_finished_sequence_frees_its_slot_for_the_next() -> None:
    run = SchedulerRun()
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
@pytest.mark.parametrize("prompt_lookup", [False, True], ids=["", "prompt lookup"])
def test_a_sequence_finishes_with_its_reason(
    num_tokens: int, max_tokens: int, end_at: int | None, num_generated: int, reason: FinishReason, prompt_lookup: bool
) -> None:
    run = SchedulerRun(num_cells=10, n_ctx=10, next_token=lambda tokens: END if len(tokens) == end_at else WORD)
    sequence = run.add(num_tokens, max_tokens, prompt_lookup=prompt_lookup)
    generated: list[int] = []
    while not run.scheduler.is_idle:
        run.step()
        generated += [token for output in run.outputs for token in output.tokens]
    assert run.outputs[-1].finish_reason is reason
    assert answer_of(sequence) == (generated, reason) == ([WORD] * num_generated, reason)


class TestPreemption:
    def test_the_sequence_served_last_is_preempted_when_no_cell_is_free(self) -> None:
        run = SchedulerRun(num_slots=3, n_batch=16, num_cells=16, n_ctx=16)
        first, second, last = run.add(5), run.add(5), run.add(3)
        assert run.step() == [(first, 5), (second, 5), (last, 3)]
        assert run.step() == [(first, 1), (second, 1), (last, 1)]
        assert run.step() == [(first, 1), (second, 1)]
        assert (last.lease, last.num_computed, last.num_generated) == (None, 0, 2)
        while first.finish_reason is None:
            num_generated = first.num_generated
            run.step()
            assert first.num_generated == num_generated + 1

    def test_a_preempted_sequence_resumes_with_all_its_tokens_and_the_right_answer(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=4, num_cells=14, n_ctx=12, next_token=hash_tokens)
        first, last = run.add(5), run.add(5)
        num_at_preemption = 0
        while not run.scheduler.is_idle:
            run.step()
            if last.lease is None and last.finish_reason is None:
                num_at_preemption = max(num_at_preemption, last.num_generated)
        assert num_at_preemption > 0
        assert answer_of(first) == run.answer_alone(first)
        assert answer_of(last) == run.answer_alone(last)

    def test_a_preempted_sequence_is_admitted_before_later_ones(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=8, num_cells=12, n_ctx=12)
        first, second, third = run.add(4), run.add(4), run.add(4)
        while second.finish_reason is None:
            run.step()
            assert third.lease is None or second.lease is not None
        assert first.finish_reason is not None

    def test_cached_prefixes_are_evicted_before_a_sequence_is_preempted(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=8, num_cells=12, n_ctx=12)
        run.add(5, max_tokens=1)
        run.finish()
        first, second = run.add(3, max_tokens=3), run.add(3, max_tokens=3)
        assert run.finish() == 3
        assert answer_of(first) == answer_of(second) == ([WORD] * 3, FinishReason.LENGTH)

    def test_batch_is_preempted_for_a_later_interactive_sequence(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=16, num_cells=12, n_ctx=12)
        batch = run.add(4, priority=Priority.BATCH)
        run.step()
        interactive = run.add(4)
        while interactive.finish_reason is None:
            run.step()
        assert batch.finish_reason is None
        run.finish()
        assert answer_of(batch) == run.answer_alone(batch)

    @pytest.mark.parametrize("supports_partial_removal", [True, False])
    def test_typing_preempts_interactive_for_a_slot(self, supports_partial_removal: bool) -> None:
        run = SchedulerRun(
            num_slots=2,
            n_batch=16,
            num_cells=64,
            n_ctx=20,
            supports_partial_removal=supports_partial_removal,
            next_token=hash_tokens,
        )
        conversations = [run.add(4), run.add(4)]
        run.step()
        typing = run.add(4, max_tokens=3, priority=Priority.TYPING)
        assert typing in [sequence for sequence, _ in run.step()]
        assert conversations[0].lease is not None
        assert conversations[1].lease is None
        run.finish()
        for sequence in (*conversations, typing):
            assert answer_of(sequence) == run.answer_alone(sequence)

    def test_typing_preempts_interactive_for_cells(self) -> None:
        run = SchedulerRun(num_slots=3, n_batch=16, num_cells=20, n_ctx=20, next_token=hash_tokens)
        conversations = [run.add(8), run.add(8)]
        run.step()
        typing = run.add(8, max_tokens=3, priority=Priority.TYPING)
        assert typing in [sequence for sequence, _ in run.step()]
        run.finish()
        for sequence in (*conversations, typing):
            assert answer_of(sequence) == run.answer_alone(sequence)

    def test_equal_priority_preempts_nothing(self) -> None:
        run = SchedulerRun(num_slots=1)
        first, second = run.add(2, max_tokens=4), run.add(2, max_tokens=4)
        assert [run.step()[0][0] for _ in range(5)] == [first] * 4 + [second]

    def test_a_preempted_sequence_s_checkpoint_takes_no_cell_that_the_step_has_reserved(self) -> None:
        run = SchedulerRun(
            num_slots=3,
            num_cached_prefixes=2,
            n_batch=16,
            num_cells=20,
            n_ctx=9,
            supports_partial_removal=False,
            next_token=hash_tokens,
        )
        shared = run.new_tokens(3)
        sequences = [run.add(2, 7, priority=Priority.BATCH)]
        sequences += [run.add([*shared[:1], *run.new_tokens(2)], 7, priority=Priority.BATCH)]
        for _ in range(4):
            run.step()
        sequences += [run.add([*shared[:1], *run.new_tokens(2)], 8, priority=Priority.BATCH)]
        sequences += [run.add([*shared, *run.new_tokens(2)], 7)]
        run.finish()
        assert [answer_of(sequence) for sequence in sequences] == [run.answer_alone(sequence) for sequence in sequences]


class TestRemoving:
    @pytest.mark.parametrize("num_steps", [0, 1, 3], ids=["waiting", "prefill", "decode"])
    def test_removing_frees_the_slot_and_the_cells(self, num_steps: int) -> None:
        run = SchedulerRun(n_batch=4, num_cells=16, n_ctx=16)
        cancelled = run.add(7)
        for _ in range(num_steps):
            run.step()
        run.scheduler.remove(cancelled)
        run.scheduler.check_integrity()
        assert run.scheduler.is_idle
        following = run.add(15)
        run.finish()
        assert answer_of(following) == ([WORD], FinishReason.LENGTH)

    def test_removing_a_preempted_sequence_leaves_nothing_behind(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=8, num_cells=8, n_ctx=8)
        first, last = run.add(3), run.add(3)
        while last.lease is not None or last.num_generated == 0:
            run.step()
        run.scheduler.remove(last)
        run.finish()
        assert first.finish_reason is FinishReason.LENGTH
        assert last.finish_reason is None

    def test_removing_twice_is_harmless(self) -> None:
        run = SchedulerRun(num_slots=2)
        cancelled, other = run.add(3), run.add(1)
        run.step()
        run.scheduler.remove(cancelled)
        run.scheduler.remove(cancelled)
        run.scheduler.check_integrity()
        assert run.step() == [(other, 1)]

    def test_removing_keeps_what_was_computed_in_the_prefix_cache(self) -> None:
        run = SchedulerRun(n_batch=4)
        cancelled = run.add(9)
        run.step()
        run.scheduler.remove(cancelled)
        again = run.add(cancelled.tokens)
        assert run.step() == [(again, 4)]
        assert again.num_cached == 4

    def test_discarding_keeps_nothing_that_was_not_shared_yet(self) -> None:
        run = SchedulerRun(n_batch=4)
        discarded = run.add(9)
        run.step()
        run.scheduler.discard(discarded)
        run.scheduler.check_integrity()
        again = run.add(discarded.tokens)
        run.step()
        assert again.num_cached == 0


class TestPrefixCache:
    def test_a_second_turn_computes_only_its_new_tokens(self) -> None:
        run = SchedulerRun(n_batch=16, next_token=hash_tokens)
        first = run.add(10, max_tokens=3)
        run.finish()
        second = run.add([*first.tokens, *run.new_tokens(4)], max_tokens=2)
        assert run.step() == [(second, 5)]  # the last token of an answer is never computed
        assert second.num_cached == 12
        run.finish()
        assert answer_of(second) == run.answer_alone(second)

    def test_the_same_prompt_again_computes_only_its_last_token(self) -> None:
        run = SchedulerRun(n_batch=16, next_token=hash_tokens)
        first = run.add(10, max_tokens=3)
        run.finish()
        again = run.add(first.tokens[:10], max_tokens=3)
        assert run.step() == [(again, 1)]
        run.finish()
        assert answer_of(again) == answer_of(first)

    def test_a_sequence_shares_the_prefix_of_one_that_still_runs(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=16, next_token=hash_tokens)
        first = run.add(10, max_tokens=8)
        run.step()
        second = run.add([*first.tokens[:10], *run.new_tokens(4)], max_tokens=2)
        assert run.step() == [(first, 1), (second, 4)]
        run.finish()
        assert [answer_of(first), answer_of(second)] == [run.answer_alone(first), run.answer_alone(second)]

    def test_a_prompt_waits_for_a_running_sequence_that_computes_its_prefix(self) -> None:
        run = SchedulerRun(num_slots=3, n_batch=32, num_cells=256, n_ctx=128)
        manual = run.new_tokens(64)
        first, second, other = run.add([*manual, 1]), run.add([*manual, 2]), run.add(5)
        assert run.step() == [(first, 32)]
        assert run.step() == [(first, 32)]
        assert run.step() == [(first, 1), (other, 5)]
        assert run.step() == [(first, 1), (other, 1), (second, 1)]
        assert second.num_cached == 64

    def test_a_prompt_does_not_wait_for_a_short_common_prefix(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=64)
        shared = run.new_tokens(10)
        first, second = run.add([*shared, 1]), run.add([*shared, 2])
        assert run.step() == [(first, 11), (second, 11)]


class TestAdmissionOrder:
    def test_interactive_is_admitted_before_batch(self) -> None:
        run = SchedulerRun()
        run.add(2, max_tokens=1)
        run.step()
        batch, conversation = run.add(2, max_tokens=1, priority=Priority.BATCH), run.add(2, max_tokens=1)
        assert run.step() == [(conversation, 2)]
        assert run.step() == [(batch, 2)]

    def test_the_client_with_fewest_running_sequences_is_admitted_first(self) -> None:
        run = SchedulerRun(num_slots=2)
        first, _, other = run.add(2, client="a"), run.add(2, client="a"), run.add(2, client="b")
        assert run.step() == [(first, 2), (other, 2)]

    def test_one_client_s_sequences_are_admitted_in_order_of_arrival(self) -> None:
        run = SchedulerRun(n_batch=8)
        sequences = [run.add(2, max_tokens=1, client="a") for _ in range(4)]
        assert [run.step()[0][0] for _ in sequences] == sequences


class TestDrafts:
    def test_accepted_drafts_bring_several_tokens_in_a_step(self) -> None:
        prompt = [1, 2, 3, 4, 5, 6, 1, 2]
        counting = SchedulerRun(next_token=lambda tokens: tokens[-1] % 6 + 1)
        sequence = counting.add(prompt, max_tokens=16, prompt_lookup=True)
        assert counting.finish() < 8
        assert answer_of(sequence) == counting.answer_alone(sequence)

    def test_rejected_drafts_change_no_answer(self) -> None:
        run = SchedulerRun(num_slots=2, next_token=hash_tokens)
        sequences = [run.add([1, 2, 3, 1, 2, 3, 1, 2], max_tokens=16, prompt_lookup=True) for _ in range(2)]
        run.finish()
        assert [answer_of(sequence) for sequence in sequences] == [run.answer_alone(sequence) for sequence in sequences]

    def test_tokens_that_a_choice_forces_take_one_step(self) -> None:
        run = SchedulerRun()
        sequence = run.add(3, choices=[[1, 2, 3, 4], [5, 6]])
        assert run.finish() == 2
        assert answer_of(sequence) == run.answer_alone(sequence)
        assert sequence.finish_reason is FinishReason.STOP

    def test_a_full_batch_leaves_no_room_for_drafts(self) -> None:
        run = SchedulerRun(num_slots=2, n_batch=2)
        sequences = [run.add([WORD] * 4, prompt_lookup=True) for _ in range(2)]
        for _ in range(8):
            assert sum(size for _, size in run.step()) <= 2
        assert all(set(sequence.tokens) == {WORD} for sequence in sequences)


def test_an_idle_scheduler_returns_an_empty_step() -> None:
    assert SchedulerRun().scheduler.schedule() == Step([], [])


def test_n_ctx_larger_than_n_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="n_ctx"):
        Scheduler(Limits(num_slots=1, num_cached_prefixes=0, n_batch=4, num_cells=15, n_ctx=16), frozenset())


def test_a_sequence_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Sequence(0, [], 1, SamplingParams())


@pytest.mark.parametrize("num_tokens", [32, 33])
def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(num_tokens: int) -> None:
    run = SchedulerRun(n_ctx=32)
    with pytest.raises(ValueError, match="room"):
        run.add(num_tokens)
    assert run.scheduler.is_idle
