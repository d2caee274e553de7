"""The layout of a grounded prompt, and the replies of extractive models."""

import pytest

from index.types import Location, Passage
from server.rag.extractive import extractive_answers
from server.rag.prompts import Source, format_user_turn


def source(number: int, text: str) -> Source:
    passage = Passage(7, 3, "handbook", "leave.md", ("Leave", "Sick leave"), text, 1, 2, score=0.5)
    return Source(number, passage, text)


def test_extractive_answers_are_all_sentences_with_their_markers() -> None:
    answers = extractive_answers([source(1, "One thing is so. Another is not."), source(2, "A third.")])
    assert answers == ["One thing is so. [1]", "Another is not. [1]", "A third. [2]"]


def test_sources_stand_before_the_question() -> None:
    turn = format_user_turn("how long?", [source(1, "Ten days."), source(2, "Two weeks.")])
    assert turn == (
        "[1] handbook/leave.md › Leave › Sick leave\nTen days.\n\n"
        "[2] handbook/leave.md › Leave › Sick leave\nTwo weeks.\n\n"
        "Question: how long?"
    )
    question_first_turn = format_user_turn(
        "how long?", [source(1, "Ten days."), source(2, "Two weeks.")], question_first=True
    )
    assert question_first_turn == f"Question: how long?\n\n{turn}"


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
