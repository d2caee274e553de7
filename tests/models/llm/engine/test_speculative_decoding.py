"""Speculative decoding with the built-in model: drafts change the speed of an answer and nothing else."""

from collections import Counter

import pytest

from models.llm.llama.runner import LlamaRunner
from models.llm.params import SamplingParams
from tests.models.draft_comparison import (
    FALSE_ALARM,
    AnswerTokens,
    UnverifiedDraftRunner,
    ambiguous_prompt,
    count_answers,
    count_beginnings,
    generate_answers,
    open_engine,
    p_value,
)

NUM_SEEDS = 500


@pytest.fixture(scope="module")
def prompt() -> list[int]:
    return ambiguous_prompt("Parental leave is sixteen weeks. Parental time is long.")


@pytest.fixture(scope="module")
def without_drafts(prompt: list[int]) -> Counter[AnswerTokens]:
    """The first two tokens of answers without drafts."""
    numbers = range(NUM_SEEDS, 2 * NUM_SEEDS)
    return count_beginnings(count_answers(LlamaRunner, prompt, numbers, prompt_lookup=False), 2)


def test_drafts_do_not_change_the_distribution_of_answers(
    prompt: list[int], without_drafts: Counter[AnswerTokens]
) -> None:
    with_drafts = count_beginnings(count_answers(LlamaRunner, prompt, range(NUM_SEEDS), prompt_lookup=True), 2)
    assert len(with_drafts) > 3, "the prompt leaves a choice"
    assert p_value(with_drafts, without_drafts) > FALSE_ALARM


def test_the_statistic_notices_drafts_that_are_not_verified(
    prompt: list[int], without_drafts: Counter[AnswerTokens]
) -> None:
    answers = count_answers(UnverifiedDraftRunner, prompt, range(NUM_SEEDS), prompt_lookup=True)
    assert p_value(count_beginnings(answers, 2), without_drafts) < FALSE_ALARM


def test_drafts_do_not_change_greedy_answers(prompt: list[int]) -> None:
    greedy = [SamplingParams(temperature=0)]
    for size in range(20, len(prompt), 7):
        answers = []
        for prompt_lookup in (True, False):
            with open_engine(LlamaRunner, prompt_lookup=prompt_lookup) as engine:
                answers.append(generate_answers(engine, prompt[:size], greedy))
        assert answers[0] == answers[1]
