"""Splitting passages into sentences, and cutting them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rag.sentences import sentence_starts, sentences, truncate


def test_sentences_end_where_a_reader_would_end_them() -> None:
    text = 'It costs 3.50 euros. Pay with a card (or cash). "Really?" Yes.\n- the first item\n- the second item'
    assert sentences(text) == [
        "It costs 3.50 euros.",
        "Pay with a card (or cash).",
        '"Really?" Yes.',
        "- the first item",
        "- the second item",
    ]


def test_table_rules_and_code_fences_are_not_sentences() -> None:
    assert sentences("| name | size |\n| --- | --- |\n| disk | large |\n```\n") == [
        "| name | size |",
        "| disk | large |",
    ]


def test_a_table_row_is_one_sentence() -> None:
    rows = ["| `leave` | Ten weeks. Paid. |", "| soup | Thursday. Warm! Or not |"]
    text = "\n".join(["These are known:", "", *rows, "That is all there is. Nothing is missing."])
    assert sentences(text) == ["These are known:", *rows, "That is all there is.", "Nothing is missing."]


@given(st.text(alphabet="aB. !?\n-|\"'", max_size=120))
def test_sentence_starts_are_ascending_offsets_of_the_text(text: str) -> None:
    starts = sentence_starts(text)
    assert starts[0] == 0
    assert all(a < b < len(text) for a, b in pairwise(starts))


@pytest.mark.parametrize(
    ("start", "limit", "expected"),
    [
        (0, 100, "First sentence here. Second sentence here."),
        (21, 100, "Second sentence here."),
        (0, 30, "First sentence here."),
        (0, 10, "First"),
        (0, 3, "Fir"),
    ],
)
def test_truncated_text_ends_at_a_sentence_else_at_a_word(start: int, limit: int, expected: str) -> None:
    assert truncate("First sentence here. Second sentence here.", start, limit) == expected
