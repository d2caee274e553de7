"""With the built-in model: guessing changes how fast an answer comes, and nothing else about it."""

from collections import Counter

import pytest

from models.llm.llama.runner import LlamaRunner
from models.llm.params import SamplingParams
from tests.models.guessing import (
    FALSE_ALARM,
    Answer,
    Gullible,
    ambiguous_prompt,
    answers,
    beginnings,
    drawn,
    likelihood,
    opened,
)

NUM_SEEDS = 500


@pytest.fixture(scope="module")
def prompt() -> list[int]:
    return ambiguous_prompt("Parental leave is sixteen weeks. Parental time is long.")


@pytest.fixture(scope="module")
def without(prompt: list[int]) -> Counter[Answer]:
    """Two tokens of answers that nobody guessed at."""
    return beginnings(drawn(LlamaRunner, prompt, range(NUM_SEEDS, 2 * NUM_SEEDS), guesses=False), 2)


def test_guesses_leave_the_distribution_of_answers_as_it_is(prompt: list[int], without: Counter[Answer]) -> None:
    with_guesses = beginnings(drawn(LlamaRunner, prompt, range(NUM_SEEDS), guesses=True), 2)
    assert len(with_guesses) > 3, "there is a choice"
    assert likelihood(with_guesses, without) > FALSE_ALARM


def test_the_test_would_notice_a_guess_that_is_believed(prompt: list[int], without: Counter[Answer]) -> None:
    believed = beginnings(drawn(Gullible, prompt, range(NUM_SEEDS), guesses=True), 2)
    assert likelihood(believed, without) < FALSE_ALARM


def test_guesses_leave_greedy_answers_as_they_are(prompt: list[int]) -> None:
    greedy = [SamplingParams(temperature=0)]
    for size in range(20, len(prompt), 7):
        told = []
        for guesses in (True, False):
            with opened(LlamaRunner, guesses=guesses) as engine:
                told.append(answers(engine, prompt[:size], greedy))
        assert told[0] == told[1]
