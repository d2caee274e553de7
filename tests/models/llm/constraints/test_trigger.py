from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.constraints.trigger import Trigger

PIECES = [b"<", b"call>", b"<call", b">", b"a", b"<think>", b"</think>", b"\xf0\x9f", b"x<", b"call>y"]


def span(tokens: Sequence[int], **options: object) -> tuple[int, int] | None:
    return Trigger(PIECES, "<call>", **options).span(list(tokens))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], None),
        ([4, 0], None),
        ([0, 1], (0, 2)),
        ([4, 2, 3, 4], (1, 3)),
        ([8, 9, 4], (0, 2)),
        ([7, 4, 0, 1, 0, 1], (2, 4)),
    ],
)
def test_the_span_of_the_first_trigger_is_of_whole_tokens(tokens: list[int], expected: tuple[int, int] | None) -> None:
    assert span(tokens) == expected


def test_text_within_reasoning_triggers_nothing() -> None:
    reasoning = ("<think>", "</think>")
    assert span([5, 0, 1, 4], reasoning=reasoning) is None
    assert span([5, 0, 1, 6, 4, 0, 1], reasoning=reasoning) == (5, 7)
    assert span([0, 1, 6, 0, 1], reasoning=reasoning, is_reasoning=True) == (3, 5)
    assert span([4, 0, 1], reasoning=reasoning) == (1, 3)


@given(st.lists(st.lists(st.integers(0, len(PIECES) - 1), max_size=8), max_size=6))
def test_the_span_depends_on_the_generated_tokens_alone(questions: list[list[int]]) -> None:
    trigger = Trigger(PIECES, "<call>", ("<think>", "</think>"))
    for tokens in questions:
        fresh = Trigger(PIECES, "<call>", ("<think>", "</think>"))
        assert trigger.span(tokens) == fresh.span(tokens)
