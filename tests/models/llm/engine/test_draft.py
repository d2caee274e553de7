"""Prompt lookup and the length of its drafts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.engine.draft import PromptLookup
from models.llm.engine.step_cost import CPU_COST, GPU_COST, DraftBudget, StepCost

TEXT = list(range(10, 60))
FREE = DraftBudget(1, 1, StepCost((1.0,), 1, 0.0))
ON_CPU = DraftBudget(1, 1, CPU_COST)


@pytest.mark.parametrize(
    ("end", "draft"),
    [
        pytest.param([99, 10, 11, 12], [13], id="a match of three tokens"),
        pytest.param([99, 10, 11, 12, 13, 14, 15], [16], id="a longer match"),
        pytest.param([99, 98, 20], [], id="a match of one token is too short"),
        pytest.param([11, 10], [], id="another order"),
    ],
)
def test_prompt_lookup_proposes_what_followed_the_same_tokens_before(end: list[int], draft: list[int]) -> None:
    assert PromptLookup([*TEXT, *end]).propose(1, FREE).tokens == draft


@pytest.mark.parametrize(
    ("num_tokens", "draft_budget", "size"),
    [
        pytest.param(6, FREE, 15, id="free"),
        pytest.param(6, DraftBudget(1, 1, GPU_COST), 9, id="on a GPU"),
        pytest.param(6, ON_CPU, 7, id="a long match on a CPU fills two tiles of four"),
        pytest.param(5, ON_CPU, 0, id="a shorter match on a CPU"),
        pytest.param(5, DraftBudget(3, 3, CPU_COST), 1, id="one place left in the tile"),
    ],
)
def test_draft_length_follows_match_length_and_step_cost(num_tokens: int, draft_budget: DraftBudget, size: int) -> None:
    assert len(PromptLookup([*TEXT, *TEXT[:num_tokens]]).propose(100, draft_budget).tokens) == size


@given(st.integers(1, 20), st.floats(0, 1), st.integers(0, 15))
def test_best_length_brings_most_tokens_for_its_cost(num_answers: int, rate: float, limit: int) -> None:
    draft_budget = DraftBudget(num_answers, num_answers, CPU_COST)

    def worth(size: int) -> float:
        return (num_answers + sum(rate**i for i in range(1, size + 1))) / CPU_COST(num_answers + size)

    assert worth(draft_budget.best_length(rate, limit)) == pytest.approx(max(map(worth, range(limit + 1))))


def test_step_cost_never_falls_with_more_tokens() -> None:
    for cost in (CPU_COST, GPU_COST):
        costs = [cost(size) for size in range(1, 100)]
        assert costs == sorted(costs)
    assert CPU_COST(21) == CPU_COST(24) > CPU_COST(20)


def test_the_latest_occurrence_is_proposed() -> None:
    assert PromptLookup([1, 2, 3, 1, 2, 4, 1, 2]).propose(1, FREE).tokens == [4]


def test_a_longer_match_goes_before_a_later_one() -> None:
    assert PromptLookup([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]).propose(1, FREE).tokens == [4]


def test_generated_tokens_are_looked_up_too() -> None:
    tokens = [1, 2, 3]
    lookup = PromptLookup(tokens)
    assert lookup.propose(4, FREE).tokens == []
    tokens += [1, 2]
    assert lookup.propose(3, FREE).tokens == [3, 1, 2]


def test_rejections_shorten_drafts_and_acceptances_lengthen_them() -> None:
    tokens = [*TEXT, *TEXT[:7]]
    lookup = PromptLookup(tokens)
    sizes = []
    for number in range(8):
        sizes.append(len(lookup.propose(100, ON_CPU).tokens))
        tokens += [1000 + number, *TEXT[:7]]  # another token follows than before
    assert sizes[0] > 0
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0
    for _ in range(60):  # the rate is learned also where nothing is drafted
        lookup.propose(100, ON_CPU)
        tokens += [7, *TEXT[:7]]
    assert len(lookup.propose(100, ON_CPU).tokens) > 0


def test_acceptance_is_learned_separately_for_short_and_long_matches() -> None:
    tokens = [*TEXT, 99, *TEXT[:7]]
    lookup = PromptLookup(tokens)
    for number in range(20):
        lookup.propose(100, ON_CPU)
        tokens += [1000 + number, *TEXT[:7]]
    assert lookup.propose(100, ON_CPU).tokens == []
    tokens += [99, *TEXT[20:25]]
    assert lookup.propose(100, DraftBudget(3, 3, CPU_COST)).tokens, (
        "drafts of matches of five tokens were never rejected"
    )


@given(tokens=st.lists(st.integers(1, 3), min_size=1, max_size=40), limit=st.integers(1, 20))
def test_a_draft_is_always_what_followed_the_last_two_tokens_before(tokens: list[int], limit: int) -> None:
    draft, expected = PromptLookup(tokens).propose(limit, FREE)
    assert len(draft) <= limit
    assert 0 <= expected <= len(draft)
    if draft:
        positions = [at for at in range(2, len(tokens)) if tokens[at - 2 : at] == tokens[-2:]]
        assert any(tokens[at : at + len(draft)] == draft for at in positions)
