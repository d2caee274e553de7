import pytest

from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Chunk, Step
from models.llm.engine.sequence import Sequence
from models.llm.params import SamplingParams


def step(*, prompt: int = 0, answers: int = 0) -> Step:
    sequence = Sequence(1, [1], 1, SamplingParams())
    chunks = [Chunk(sequence, 0, [1] * prompt, 0, False)] if prompt else []
    return Step([], chunks + [Chunk(sequence, 0, [1], 0, True)] * answers)


def learned(*measured: tuple[Step, float], n_batch: int = 256) -> PrefillBudget:
    pace = PrefillBudget(n_batch)
    for each, seconds in measured:
        pace.learn(each, seconds)
    return pace


def test_before_anything_was_measured_a_step_carries_a_little() -> None:
    assert (PrefillBudget(256).beside, PrefillBudget(8).beside) == (32, 8)


@pytest.mark.parametrize(
    ("tokens_a_second", "beside"),
    [(15, 16), (60, 16), (100, 32), (150, 64), (500, 128), (550, 256), (50_000, 256)],
)
def test_a_step_beside_answers_takes_half_a_second(tokens_a_second: float, beside: int) -> None:
    pace = learned((step(answers=4), 0.0), (step(prompt=256), 256 / tokens_a_second))
    assert pace.beside == beside


def test_what_the_answers_take_is_left_to_them() -> None:
    alone, together = step(answers=4), step(prompt=64, answers=4)
    assert learned((alone, 0.1), (together, 0.1 + 64 / 500)).beside == 128
    assert learned((alone, 0.4), (together, 0.4 + 64 / 500)).beside == 32
    assert learned((alone, 5.0), (together, 5.1)).beside == 16, "never less, or prompts would wait for ever"


def test_it_follows_a_machine_that_becomes_slower() -> None:
    fast, slow = (step(prompt=256), 0.1), (step(prompt=256), 8.0)
    assert learned(fast).beside == 256
    assert learned(fast, *[slow] * 10).beside == 16
    assert learned(fast, *[slow] * 10, *[fast] * 30).beside == 256


def test_a_draft_is_no_prompt() -> None:
    sequence = Sequence(1, [1], 1, SamplingParams())
    guesses = Step([], [Chunk(sequence, 0, [1] * 17, 16, True)])
    assert learned((guesses, 9.0)).beside == 32, "nothing was learned about prompts"
