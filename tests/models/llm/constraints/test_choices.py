import pytest

from models.llm.constraints.choices import Choices
from models.llm.engine.sequence import Sequence
from models.llm.params import SamplingParams

END = 0


@pytest.mark.parametrize(
    ("generated", "allowed"),
    [
        pytest.param([], [1, 5], id="any beginning"),
        pytest.param([1], [2, 3], id="where two part"),
        pytest.param([1, 2], [END, 4], id="one ends where another goes on"),
        pytest.param([1, 2, 4], [END], id="a whole choice ends"),
        pytest.param([5], [END], id="a choice of one token"),
        pytest.param([9], [END], id="off every choice there is only the end"),
    ],
)
def test_only_tokens_that_lead_to_a_choice_are_allowed(generated: list[int], allowed: list[int]) -> None:
    assert Choices([[1, 2], [1, 2, 4], [1, 3], [5]], END).after(generated) == allowed


def test_an_empty_choice_may_end_at_once() -> None:
    assert Choices([[], [1]], END).after([]) == [END, 1]


def test_no_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one choice"):
        Choices([], END)


@pytest.mark.parametrize(
    ("generated", "limit", "forced"),
    [
        pytest.param([], 9, [], id="nothing where the choices part at once"),
        pytest.param([1, 2], 9, [], id="nothing where one ends and another goes on"),
        pytest.param([1, 3], 9, [4, 5, END], id="the rest of the only one left, and the end"),
        pytest.param([1, 3], 2, [4, 5], id="no more than the limit"),
        pytest.param([1, 3, 4, 5], 9, [END], id="the end of a whole one"),
        pytest.param([9], 9, [], id="nothing off every choice"),
    ],
)
def test_tokens_without_an_alternative_are_forced(generated: list[int], limit: int, forced: list[int]) -> None:
    assert Choices([[1, 2], [1, 2, 4], [1, 3, 4, 5]], END).forced_tokens(generated, limit) == forced


def test_a_choice_does_not_include_the_prompt() -> None:
    sequence = Sequence(0, [1, 2], 10, SamplingParams(), constraint=Choices([[1, 2], [3]], END))
    assert sequence.allowed_tokens([]) == [1, 3]
    assert sequence.allowed_tokens([1]) == [2]
    sequence.tokens.append(1)
    assert sequence.allowed_tokens([]) == [2]


def test_a_sequence_without_choices_allows_any_token() -> None:
    assert Sequence(0, [1], 10, SamplingParams()).allowed_tokens([]) is None
