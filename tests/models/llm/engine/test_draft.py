import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.engine.draft import PromptLookup
from models.llm.engine.step_cost import CPU_COST, GPU_COST, DraftBudget, StepCost

STORY = list(range(10, 60))
FREE = DraftBudget(1, 1, StepCost((1.0,), 1, 0.0))
ON_CPU = DraftBudget(1, 1, CPU_COST)


@pytest.mark.parametrize(
    ("end", "draft"),
    [
        pytest.param([99, 10, 11, 12], [13], id="three tokens seen before"),
        pytest.param([99, 10, 11, 12, 13, 14, 15], [16], id="more"),
        pytest.param([99, 98, 20], [], id="one token is nothing"),
        pytest.param([11, 10], [], id="another order"),
    ],
)
def test_what_followed_before_is_guessed_to_follow_again(end: list[int], draft: list[int]) -> None:
    assert PromptLookup([*STORY, *end]).propose(1, FREE).tokens == draft


@pytest.mark.parametrize(
    ("num_tokens", "draft_budget", "size"),
    [
        pytest.param(6, FREE, 15, id="for nothing"),
        pytest.param(6, DraftBudget(1, 1, GPU_COST), 9, id="on a GPU"),
        pytest.param(6, ON_CPU, 7, id="a long match on a CPU fills two tiles of four"),
        pytest.param(5, ON_CPU, 0, id="a shorter one is too little"),
        pytest.param(5, DraftBudget(3, 3, CPU_COST), 1, id="but there is a place left in the tile"),
    ],
)
def test_a_draft_is_as_long_as_it_is_worth(num_tokens: int, draft_budget: DraftBudget, size: int) -> None:
    assert len(PromptLookup([*STORY, *STORY[:num_tokens]]).propose(100, draft_budget).tokens) == size


@given(st.integers(1, 20), st.floats(0, 1), st.integers(0, 15))
def test_no_other_length_brings_more_for_its_cost(num_answers: int, rate: float, limit: int) -> None:
    draft_budget = DraftBudget(num_answers, num_answers, CPU_COST)

    def worth(size: int) -> float:
        return (num_answers + sum(rate**i for i in range(1, size + 1))) / CPU_COST(num_answers + size)

    assert worth(draft_budget.best_length(rate, limit)) == pytest.approx(max(map(worth, range(limit + 1))))


def test_a_step_of_more_tokens_never_costs_less() -> None:
    for cost in (CPU_COST, GPU_COST):
        costs = [cost(size) for size in range(1, 100)]
        assert costs == sorted(costs)
    assert CPU_COST(21) == CPU_COST(24) > CPU_COST(20)


def test_the_latest_of_several_places_is_meant() -> None:
    assert PromptLookup([1, 2, 3, 1, 2, 4, 1, 2]).propose(1, FREE).tokens == [4]


def test_a_longer_match_is_better_than_a_later_one() -> None:
    assert PromptLookup([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]).propose(1, FREE).tokens == [4]


def test_tokens_that_came_since_are_looked_up_too() -> None:
    tokens = [1, 2, 3]
    lookup = PromptLookup(tokens)
    assert lookup.propose(4, FREE).tokens == []
    tokens += [1, 2]
    assert lookup.propose(3, FREE).tokens == [3, 1, 2]


def test_matches_that_do_not_hold_are_believed_less_and_those_that_do_more() -> None:
    tokens = [*STORY, *STORY[:7]]
    lookup = PromptLookup(tokens)
    sizes = []
    for number in range(8):
        sizes.append(len(lookup.propose(100, ON_CPU).tokens))
        tokens += [1000 + number, *STORY[:7]]  # what followed before does not follow
    assert sizes[0] > 0
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0
    for _ in range(60):  # also where nothing is guessed it is seen that it would have held
        lookup.propose(100, ON_CPU)
        tokens += [7, *STORY[:7]]
    assert len(lookup.propose(100, ON_CPU).tokens) > 0


def test_short_and_long_matches_are_learned_apart() -> None:
    tokens = [*STORY, 99, *STORY[:7]]
    lookup = PromptLookup(tokens)
    for number in range(20):
        lookup.propose(100, ON_CPU)
        tokens += [1000 + number, *STORY[:7]]
    assert lookup.propose(100, ON_CPU).tokens == []
    tokens += [99, *STORY[20:25]]
    assert lookup.propose(100, DraftBudget(3, 3, CPU_COST)).tokens, "five tokens have not failed"


@given(tokens=st.lists(st.integers(1, 3), min_size=1, max_size=40), limit=st.integers(1, 20))
def test_a_guess_is_always_what_stood_after_the_same_tokens(tokens: list[int], limit: int) -> None:
    draft, expected = PromptLookup(tokens).propose(limit, FREE)
    assert len(draft) <= limit
    assert 0 <= expected <= len(draft)
    if draft:
        places = [at for at in range(2, len(tokens)) if tokens[at - 2 : at] == tokens[-2:]]
        assert any(tokens[at : at + len(draft)] == draft for at in places)
