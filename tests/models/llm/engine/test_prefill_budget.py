"""The number of prompt tokens that a step may hold beside decoding sequences."""

import pytest

from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.sequence import Sequence
from models.llm.engine.step import ScheduledChunk, Step
from models.llm.params import SamplingParams


def step(*, prompt: int = 0, answers: int = 0) -> Step:
    sequence = Sequence(1, [1], 1, SamplingParams())
    chunks = [ScheduledChunk(sequence, 0, [1] * prompt, 0, False)] if prompt else []
    return Step([], chunks + [ScheduledChunk(sequence, 0, [1], 0, True)] * answers)


def budget_after(*measurements: tuple[Step, float], n_batch: int = 256) -> PrefillBudget:
    prefill_budget = PrefillBudget(n_batch)
    for each, seconds in measurements:
        prefill_budget.learn(each, seconds)
    return prefill_budget


def test_the_first_budget_is_small() -> None:
    assert (PrefillBudget(256).max_tokens, PrefillBudget(8).max_tokens) == (32, 8)


@pytest.mark.parametrize(
    ("tokens_per_s", "max_tokens"),
    [(15, 16), (60, 16), (100, 32), (150, 64), (500, 128), (550, 256), (50_000, 256)],
)
def test_a_step_beside_decoding_takes_at_most_half_a_second(tokens_per_s: float, max_tokens: int) -> None:
    prefill_budget = budget_after((step(answers=4), 0.0), (step(prompt=256), 256 / tokens_per_s))
    assert prefill_budget.max_tokens == max_tokens


def test_the_time_of_decoding_is_subtracted() -> None:
    decode, mixed = step(answers=4), step(prompt=64, answers=4)
    assert budget_after((decode, 0.1), (mixed, 0.1 + 64 / 500)).max_tokens == 128
    assert budget_after((decode, 0.4), (mixed, 0.4 + 64 / 500)).max_tokens == 32
    assert budget_after((decode, 5.0), (mixed, 5.1)).max_tokens == 16, "never less, or prefill would never end"


def test_the_budget_follows_a_machine_s_speed() -> None:
    fast, slow = (step(prompt=256), 0.1), (step(prompt=256), 8.0)
    assert budget_after(fast).max_tokens == 256
    assert budget_after(fast, *[slow] * 10).max_tokens == 16
    assert budget_after(fast, *[slow] * 10, *[fast] * 30).max_tokens == 256


def test_draft_tokens_are_not_counted_as_prompt_tokens() -> None:
    sequence = Sequence(1, [1], 1, SamplingParams())
    drafting = Step([], [ScheduledChunk(sequence, 0, [1] * 17, 16, True)])
    assert budget_after((drafting, 9.0)).max_tokens == 32, "nothing was learned about prompts"
