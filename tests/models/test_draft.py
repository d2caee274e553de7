import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.draft import PromptLookup

STORY = list(range(10, 40))


@pytest.mark.parametrize(
    ("end", "draft"),
    [
        pytest.param([10, 11, 12], [13, 14, 15, 16], id="three tokens seen before"),
        pytest.param([99, 20, 21], [22, 23, 24, 25], id="two tokens seen before"),
        pytest.param([99, 98, 20], [], id="one token is too little"),
        pytest.param([11, 10], [], id="another order"),
    ],
)
def test_what_followed_before_is_guessed_to_follow_again(end: list[int], draft: list[int]) -> None:
    assert PromptLookup([*STORY, *end]).propose(100) == draft


def test_the_latest_of_several_places_is_meant() -> None:
    assert PromptLookup([1, 2, 3, 1, 2, 4, 1, 2]).propose(1) == [4]


def test_a_longer_match_is_better_than_a_later_one() -> None:
    assert PromptLookup([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]).propose(1) == [4]


def test_tokens_that_came_since_are_looked_up_too() -> None:
    tokens = [1, 2, 3]
    lookup = PromptLookup(tokens)
    assert lookup.propose(4) == []
    tokens += [1, 2]
    assert lookup.propose(4) == [3, 1, 2]


def test_guesses_grow_while_they_hold_and_shrink_when_they_do_not() -> None:
    lookup = PromptLookup([*STORY, 10, 11])
    sizes = [len(lookup.propose(100))]
    for num_accepted in (4, 8, 16, 5, 1):
        lookup.learn(sizes[-1], num_accepted)
        sizes.append(len(lookup.propose(100)))
    assert sizes == [4, 8, 16, 16, 6, 2]


def test_after_a_guess_that_failed_altogether_there_is_a_pause() -> None:
    tokens = [*STORY, 10, 11]
    lookup = PromptLookup(tokens)
    lookup.learn(len(lookup.propose(4)), 0)
    pause = 0
    while not lookup.propose(4):
        pause += 1
        tokens += [10, 11]
        assert pause < 20
    assert pause > 1


@given(tokens=st.lists(st.integers(1, 3), min_size=1, max_size=40), limit=st.integers(1, 20))
def test_a_guess_is_always_what_stood_after_the_same_tokens(tokens: list[int], limit: int) -> None:
    draft = PromptLookup(tokens).propose(limit)
    assert len(draft) <= limit
    if draft:
        places = [at for at in range(2, len(tokens)) if tokens[at - 2 : at] == tokens[-2:]]
        assert any(tokens[at : at + len(draft)] == draft for at in places)
