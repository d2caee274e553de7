"""The engine with a scripted runner: requests in, deltas out."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.llm.engine.engine import Engine
from models.llm.engine.messages import Delta, Generate, TokenLogprobs
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import FinishReason, Sequence
from models.llm.engine.step import Limits, Step
from models.llm.params import SamplingParams

END = 0


class ScriptedRunner:
    """Returns the last token plus one, and the end token after 9; fails the steps numbered in `failing_steps`."""

    def __init__(self, failing_steps: frozenset[int] = frozenset()) -> None:
        self._failing_steps = failing_steps
        self._num_steps = 0
        self.num_forgotten: Counter[int] = Counter()

    def compute(self, step: Step) -> list[list[int]]:
        self._num_steps += 1
        if self._num_steps in self._failing_steps:
            raise RuntimeError("no room")
        return [[(chunk.sequence.tokens[-1] + 1) % 10] if chunk.wants_token else [] for chunk in step.chunks]

    def logprobs(self, sequence: Sequence) -> list[TokenLogprobs]:
        return [TokenLogprobs(token, -1.0, []) for token in (sequence.tokens[-1], END)]

    def forget(self, sequence: Sequence) -> None:
        self.num_forgotten[sequence.id] += 1


def make_engine(runner: ScriptedRunner, *, num_slots: int = 2, n_batch: int = 8, num_cells: int = 64) -> Engine:
    return Engine(
        Scheduler(Limits(num_slots, 4, n_batch, num_cells, n_ctx=16), frozenset({END})),
        runner,
        END,
        prefill_budget=PrefillBudget(n_batch),
    )


def request(id: int, *prompt: int, max_tokens: int = 100, client: str = "") -> Generate:
    return Generate(id, list(prompt), max_tokens, SamplingParams(), client=client)


def finish(engine: Engine) -> list[Delta]:
    deltas: list[Delta] = []
    while not engine.is_idle:
        deltas += engine.step()
    return deltas


def test_each_step_brings_a_token_and_the_end_token_is_left_out() -> None:
    runner = ScriptedRunner()
    engine = make_engine(runner)
    engine.add(request(1, 6, 7))
    assert finish(engine) == [Delta(1, [8]), Delta(1, [9]), Delta(1, [], finish_reason=FinishReason.STOP)]
    assert runner.num_forgotten == {1: 1}


def test_the_last_token_within_max_tokens_comes_with_the_finish_reason() -> None:
    engine = make_engine(ScriptedRunner())
    engine.add(request(1, 3, max_tokens=2))
    assert finish(engine) == [Delta(1, [4]), Delta(1, [5], finish_reason=FinishReason.LENGTH)]


def test_requests_in_one_batch_get_their_own_tokens() -> None:
    engine = make_engine(ScriptedRunner())
    engine.add(request(1, 1, max_tokens=2))
    engine.add(request(2, 5, max_tokens=3))
    assert finish(engine) == [
        Delta(1, [2]),
        Delta(2, [6]),
        Delta(1, [3], finish_reason=FinishReason.LENGTH),
        Delta(2, [7]),
        Delta(2, [8], finish_reason=FinishReason.LENGTH),
    ]


def test_logprobs_come_one_for_each_token_and_only_when_requested() -> None:
    engine = make_engine(ScriptedRunner())
    engine.add(Generate(1, [1], 1, SamplingParams(num_logprobs=0)))
    engine.add(Generate(2, [5], 1, SamplingParams()))
    assert [[each.token for each in delta.logprobs] for delta in finish(engine)] == [[2], []]


def test_a_step_of_prefill_alone_brings_no_delta() -> None:
    engine = make_engine(ScriptedRunner(), n_batch=2)
    engine.add(request(1, 1, 1, 1, 1, 1, max_tokens=1))
    assert [engine.step() for _ in range(3)] == [[], [], [Delta(1, [2], finish_reason=FinishReason.LENGTH)]]


def test_a_failed_batch_ends_its_own_requests_only() -> None:
    runner = ScriptedRunner(failing_steps=frozenset({2}))
    engine = make_engine(runner, num_slots=2)
    for id in (1, 2, 3):
        engine.add(request(id, 5, max_tokens=2))
    assert engine.step() == [Delta(1, [6]), Delta(2, [6])]
    assert engine.step() == [Delta(1, [], error="no room"), Delta(2, [], error="no room")]
    assert runner.num_forgotten == {1: 1, 2: 1}
    assert finish(engine) == [Delta(3, [6]), Delta(3, [7], finish_reason=FinishReason.LENGTH)]


def test_a_preempted_request_goes_on_after_a_failed_batch() -> None:
    runner = ScriptedRunner(failing_steps=frozenset({3}))
    engine = make_engine(runner, num_cells=16, n_batch=16)
    engine.add(request(1, *[1] * 9))
    engine.add(request(2, *[5] * 5, max_tokens=3))
    assert engine.step() == [Delta(1, [2]), Delta(2, [6])]
    assert engine.step() == [Delta(1, [3]), Delta(2, [7])]
    assert engine.step() == [
        Delta(1, [], error="no room")
    ]  # the second was preempted, so the batch held the first alone
    assert finish(engine) == [Delta(2, [8], finish_reason=FinishReason.LENGTH)]
    assert runner.num_forgotten == {1: 1, 2: 1}


def test_the_memory_of_a_failed_request_is_not_reused() -> None:
    engine = make_engine(ScriptedRunner(failing_steps=frozenset({2})), n_batch=2)
    engine.add(request(1, 1, 2, 3, 4))
    assert [engine.step(), engine.step()] == [[], [Delta(1, [], error="no room")]]
    engine.add(request(2, 1, 2, 3, 4, max_tokens=1))
    assert finish(engine) == [Delta(2, [5], num_cached=0, finish_reason=FinishReason.LENGTH)]


def test_num_cached_counts_the_prompt_s_tokens_in_memory() -> None:
    engine = make_engine(ScriptedRunner())
    for id in (1, 2):
        engine.add(request(id, 1, 2, 3, 4, max_tokens=1))
        deltas = finish(engine)
    assert deltas == [Delta(2, [5], num_cached=3, finish_reason=FinishReason.LENGTH)]


@pytest.mark.parametrize("num_steps", [0, 1, 3], ids=["waiting", "prefill", "decode"])
def test_cancelling_stops_deltas_and_the_runner_forgets_the_sequence(num_steps: int) -> None:
    runner = ScriptedRunner()
    engine = make_engine(runner, n_batch=2)
    engine.add(request(1, 1, 1, 1))
    for _ in range(num_steps):
        engine.step()
    engine.cancel(1)
    engine.cancel(1)
    assert runner.num_forgotten == {1: 1}
    assert engine.is_idle


def test_cancelling_a_finished_or_unknown_request_does_nothing() -> None:
    runner = ScriptedRunner()
    engine = make_engine(runner)
    engine.add(request(1, 9))
    engine.add(request(2, 7))
    engine.step()
    engine.cancel(1)
    engine.cancel(99)
    assert finish(engine)[-1] == Delta(2, [], finish_reason=FinishReason.STOP)
    assert runner.num_forgotten == {1: 1, 2: 1}


@settings(deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=15), min_size=1, max_size=8),
    num_steps_before_cancel=st.dictionaries(st.integers(0, 7), st.integers(0, 12)),
    failing_steps=st.frozensets(st.integers(1, 12), max_size=2),
)
def test_every_request_ends_once_and_is_forgotten_once(
    prompts: list[list[int]], num_steps_before_cancel: dict[int, int], failing_steps: frozenset[int]
) -> None:
    runner = ScriptedRunner(failing_steps)
    engine = make_engine(runner, n_batch=4, num_cells=20)
    for id, prompt in enumerate(prompts):
        engine.add(request(id, *prompt))
    deltas: list[Delta] = []
    num_steps = 0
    while not engine.is_idle:
        for id in (id for id, step in num_steps_before_cancel.items() if step == num_steps):
            engine.cancel(id)
        if not engine.is_idle:
            deltas += engine.step()
        num_steps += 1
    ended = Counter(delta.id for delta in deltas if delta.is_last)
    assert runner.num_forgotten == dict.fromkeys(range(len(prompts)), 1)
    assert set(ended.values()) <= {1}
    assert set(range(len(prompts))) - set(ended) <= set(num_steps_before_cancel)
    for id, prompt in enumerate(prompts):
        tokens = [token for delta in deltas if delta.id == id for token in delta.tokens]
        assert tokens == list(range(prompt[-1] + 1, 10))[: len(tokens)]


@pytest.mark.parametrize("num_slots", [1, 2])
def test_many_long_requests_of_one_client_do_not_starve_another(num_slots: int) -> None:
    engine = make_engine(ScriptedRunner(), num_slots=num_slots)
    for id in range(8):
        engine.add(request(id, 1, client="a"))
    before = engine.step()
    engine.add(request(8, 1, client="b"))
    order = [delta.id for delta in [*before, *finish(engine)] if delta.finish_reason is not None]
    assert order.index(8) == num_slots, "a's requests hold every slot; the next free slot is b's"
    assert [id for id in order if id != 8] == list(range(8))
