import pytest

from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.sequence import Sequence
from models.llm.engine.step import ScheduledChunk, Step
from models.llm.params import SamplingParams


def step(*, prompt: int = 0, answers: int = 0) -> Step:
    sequence = Sequence(1, [1], 1, SamplingParams())
    chunks = [ScheduledChunk(sequence, 0, [1] * prompt, 0, False)] if prompt else []
    return Step([], chunks + [ScheduledChunk(sequence, 0, [1], 0, True)] * answers)


def learned(*measured: tuple[Step, float], n_batch: int = 256) -> PrefillBudget:
    prefill_budget = PrefillBudget(n_batch)
    for each, seconds in measured:
        prefill_budget.learn(each, seconds)
    return prefill_budget


def test_before_anything_was_measured_a_step_carries_a_little() -> None:
    assert (PrefillBudget(256).max_tokens, PrefillBudget(8).max_tokens) == (32, 8)


@pytest.mark.parametrize(
    ("tokens_a_second", "max_tokens"),
    [(15, 16), (60, 16), (100, 32), (150, 64), (500, 128), (550, 256), (50_000, 256)],
)
def test_a_step_beside_answers_takes_half_a_second(tokens_a_second: float, max_tokens: int) -> None:
    prefill_budget = learned((step(answers=4), 0.0), (step(prompt=256), 256 / tokens_a_second))
    assert prefill_budget.max_tokens == max_tokens


def test_what_the_answers_take_is_left_to_them() -> None:
    alone, together = step(answers=4), step(prompt=64, answers=4)
    assert learned((alone, 0.1), (together, 0.1 + 64 / 500)).max_tokens == 128
    assert learned((alone, 0.4), (together, 0.4 + 64 / 500)).max_tokens == 32
    assert learned((alone, 5.0), (together, 5.1)).max_tokens == 16, "never less, or prompts would wait for ever"


def test_it_follows_a_machine_that_becomes_slower() -> None:
    fast, slow = (step(prompt=256), 0.1), (step(prompt=256), 8.0)
    assert learned(fast).max_tokens == 256
    assert learned(fast, *[slow] * 10).max_tokens == 16
    assert learned(fast, *[slow] * 10, *[fast] * 30).max_tokens == 256


def test_a_draft_is_no_prompt() -> None:
    sequence = Sequence(1, [1], 1, SamplingParams())
    guesses = Step([], [ScheduledChunk(sequence, 0, [1] * 17, 16, True)])
    assert learned((guesses, 9.0)).max_tokens == 32, "nothing was learned about prompts"
