"""The pure parts of grounding: markers, sentences, quotes, the prompt's layout."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.types import Location, Passage, Vectors
from server.rag.extractive import extractive_answers
from server.rag.prompts import Source, format_user_turn
from server.rag.sentences import sentence_starts, sentences, truncate
from server.rag.snippets import SnippetSelector


def source(number: int, text: str) -> Source:
    passage = Passage(7, 3, "handbook", "leave.md", ("Leave", "Sick leave"), text, 1, 2, score=0.5)
    return Source(number, passage, text)


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
    ("start", "limit", "kept"),
    [
        (0, 100, "First sentence here. Second sentence here."),
        (21, 100, "Second sentence here."),
        (0, 30, "First sentence here."),
        (0, 10, "First"),
        (0, 3, "Fir"),
    ],
)
def test_truncated_text_ends_at_a_sentence_else_at_a_word(start: int, limit: int, kept: str) -> None:
    assert truncate("First sentence here. Second sentence here.", start, limit) == kept


async def embed_words(texts: Sequence[str]) -> Vectors:
    """Unit vectors over three words: near when they share them."""
    rows = [[text.lower().count(word) + 0.01 for word in ("leave", "train", "soup")] for text in texts]
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_snippet_begins_at_the_sentence_that_answers_best() -> None:
    texts = ["Trains come first. Leave is sixteen weeks. Soup is on Thursday.", "Soup is warm today.", "| --- |"]
    shaped = asyncio.run(SnippetSelector().select("how long is leave", texts, 30, embed_words))
    assert [brief.text for brief in shaped] == ["Leave is sixteen weeks.", "Soup is warm today.", ""]
    assert shaped[0].similarity > 0.9 > shaped[1].similarity > shaped[2].similarity == -1
    assert shaped[0].answer_score > 1 > shaped[1].answer_score > shaped[2].answer_score == -1


def test_a_snippet_of_a_table_is_one_row() -> None:
    rows = ["| train | Monday. Early. |", "| leave | Sixteen weeks. Paid. |", "| soup | Thursday |"]
    table = "\n".join(["| what | when |", "| --- | --- |", *rows])
    (shaped,) = asyncio.run(SnippetSelector().select("how long is leave", [table], 300, embed_words))
    assert shaped.text == rows[1]


def test_common_words_decide_between_sentences_of_like_meaning() -> None:
    texts = ["Leave is granted by the board. Leave of fathers ends after ten weeks. Leave is a right."]
    (shaped,) = asyncio.run(SnippetSelector().select("When does the leave of a father end?", texts, 30, embed_words))
    assert shaped.text == "Leave of fathers ends after ten weeks."


@pytest.mark.parametrize(("limit", "kept"), [(30, 38), (20, 38), (14, 28), (60, 53)])
def test_the_first_sentence_of_a_snippet_is_whole_up_to_twice_the_limit(limit: int, kept: int) -> None:
    text = "Leave of fathers ends after ten weeks. So it is said."
    (shaped,) = asyncio.run(SnippetSelector().select("leave of fathers", [text], limit, embed_words))
    assert len(shaped.text) <= kept and len(shaped.text) > kept - 6 and text.startswith(shaped.text)


def test_word_shares_count_rare_words_more_and_every_form_of_a_word() -> None:
    said = ["The pump is cleaned.", "The pump is old.", "Filters of the pump are cleaned monthly.", "Who knows?"]
    word_shares = SnippetSelector().word_shares("How often do I clean the filter of the pump?", said)
    assert word_shares[2] > word_shares[0] > word_shares[1] > word_shares[3] == 0
    assert word_shares[2] <= 1
    assert SnippetSelector().word_shares("?", said) == [0, 0, 0, 0]
    assert SnippetSelector().word_shares("anything", []) == []


def test_extractive_answers_are_all_sentences_with_their_markers() -> None:
    allowed = extractive_answers([source(1, "One thing is so. Another is not."), source(2, "A third.")])
    assert allowed == ["One thing is so. [1]", "Another is not. [1]", "A third. [2]"]


def test_sources_stand_before_the_question() -> None:
    turn = format_user_turn("how long?", [source(1, "Ten days."), source(2, "Two weeks.")])
    assert turn == (
        "[1] handbook/leave.md › Leave › Sick leave\nTen days.\n\n"
        "[2] handbook/leave.md › Leave › Sick leave\nTwo weeks.\n\n"
        "Question: how long?"
    )
    asked_first = format_user_turn("how long?", [source(1, "Ten days."), source(2, "Two weeks.")], question_first=True)
    assert asked_first == f"Question: how long?\n\n{turn}"


@pytest.mark.parametrize("found_nothing", [False, True])
def test_a_question_without_sources_is_in_the_prompt_once(found_nothing: bool) -> None:
    turns = [
        format_user_turn("how long?", [], found_nothing=found_nothing, question_first=first) for first in (False, True)
    ]
    assert turns[0] == turns[1] and turns[0].count("how long?") == 1


@pytest.mark.parametrize(
    ("place", "heading", "label"),
    [
        (None, ("Leave",), "handbook/leave.md › Leave"),
        (Location("page", 3, 3), (), "handbook/leave.md › p. 3"),
        (Location("page", 3, 4), ("Leave",), "handbook/leave.md › pp. 3–4 › Leave"),
        (Location("slide", 4, 4), ("Leave",), "handbook/leave.md › slide 4 › Leave"),
        (Location("sheet", 2, 40, "Budget"), ("Budget",), "handbook/leave.md › Budget, rows 2–40"),
        (Location("cell", 1, 2), (), "handbook/leave.md › cells 1–2"),
    ],
)
def test_the_label_of_a_source_has_its_place_and_headings(
    place: Location | None, heading: tuple[str, ...], label: str
) -> None:
    passage = Passage(7, 3, "handbook", "leave.md", heading, "text", 1, 2, score=0.5, place=place)
    assert Source(1, passage, "text").label == label


def test_the_label_of_a_source_names_some_duplicates() -> None:
    def label(*others: str) -> str:
        return Source(1, Passage(1, 1, "notes", "a.md", (), "", 1, 1, 1.0, also_in=others), "").label

    assert label("notes/b.md") == "notes/a.md (also in notes/b.md)"
    assert label("b", "c", "d") == "notes/a.md (also in b, c, d)"
    assert label("b", "c", "d", "e", "f") == "notes/a.md (also in b, c, d and 2 more)"
