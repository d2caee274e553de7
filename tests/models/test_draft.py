import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.draft import PromptLookup

STORY = list(range(10, 40))


@pytest.mark.parametrize(
    ("end", "draft"),
    [
        pytest.param([99, 10, 11, 12], [13], id="three tokens seen before"),
        pytest.param([99, 10, 11, 12, 13, 14, 15], [16, 17, 18, 19, 20, 21, 22, 23], id="more is surer"),
        pytest.param([99, 20, 21], [], id="two tokens are too little for the price"),
        pytest.param([99, 98, 20], [], id="one token is nothing"),
        pytest.param([11, 10], [], id="another order"),
    ],
)
def test_what_followed_before_is_guessed_to_follow_again(end: list[int], draft: list[int]) -> None:
    assert PromptLookup([*STORY, *end]).propose(100, price=0.4) == draft


@pytest.mark.parametrize(("price", "size"), [(0.0, 16), (0.05, 16), (0.4, 8), (0.6, 4), (0.89, 1), (0.95, 0)])
def test_a_draft_is_as_long_as_its_last_guess_is_worth(price: float, size: int) -> None:
    assert len(PromptLookup([*STORY, *STORY[:6]]).propose(100, price)) == size


def test_the_latest_of_several_places_is_meant() -> None:
    assert PromptLookup([1, 2, 3, 1, 2, 4, 1, 2]).propose(1, price=0) == [4]


def test_a_longer_match_is_better_than_a_later_one() -> None:
    assert PromptLookup([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]).propose(1, price=0) == [4]


def test_tokens_that_came_since_are_looked_up_too() -> None:
    tokens = [1, 2, 3]
    lookup = PromptLookup(tokens)
    assert lookup.propose(4, price=0) == []
    tokens += [1, 2]
    assert lookup.propose(3, price=0) == [3, 1, 2]


def sizes_after(*accepted: int, price: float = 0.4) -> list[int]:
    """Lengths of drafts behind a match of six tokens, of which so many held each time."""
    lookup = PromptLookup([*STORY, *STORY[:6]])
    sizes = [len(lookup.propose(100, price))]
    for num_accepted in accepted:
        lookup.learn(sizes[-1], min(num_accepted, sizes[-1]))
        sizes.append(len(lookup.propose(100, price)))
    return sizes


def test_drafts_grow_while_they_hold_and_shrink_when_they_do_not() -> None:
    growing = sizes_after(16, 16, 16)
    assert growing == sorted(growing)
    assert growing[-1] == 16
    failing = sizes_after(0, 0, 0, 0)
    assert failing == sorted(failing, reverse=True)
    assert failing[-1] == 0


def test_short_and_long_matches_are_learned_apart() -> None:
    tokens = [*STORY, 99, *STORY[:6]]
    lookup = PromptLookup(tokens)
    for _ in range(5):
        lookup.learn(len(lookup.propose(100, 0.4)), 0)
    assert lookup.propose(100, 0.4) == []
    tokens += [99, *STORY[:4]]
    assert lookup.propose(100, 0.4), "four tokens have not failed"


def test_what_failed_is_tried_again_with_one_guess_now_and_then() -> None:
    lookup = PromptLookup([*STORY, *STORY[:6]])
    for _ in range(5):
        lookup.learn(len(lookup.propose(100, 0.4)), 0)
    sizes = [len(lookup.propose(100, 0.4)) for _ in range(100)]
    assert sum(sizes) == sizes.count(1) == 4


@given(tokens=st.lists(st.integers(1, 3), min_size=1, max_size=40), limit=st.integers(1, 20), price=st.floats(0, 1))
def test_a_guess_is_always_what_stood_after_the_same_tokens(tokens: list[int], limit: int, price: float) -> None:
    draft = PromptLookup(tokens).propose(limit, price)
    assert len(draft) <= limit
    if draft:
        places = [at for at in range(2, len(tokens)) if tokens[at - 2 : at] == tokens[-2:]]
        assert any(tokens[at : at + len(draft)] == draft for at in places)
