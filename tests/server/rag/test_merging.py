"""Adjacent passages become one; no text is lost, and no others are merged."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.types import Passage
from server.rag.merging import merge_adjacent


def passage(chunk_id: int, lines: tuple[int, int], score: float = 0.5, document_id: int = 1, lead: str = "") -> Passage:
    return Passage(chunk_id, document_id, "docs", "a.md", ("A",), f"text {chunk_id}", *lines, score, lead=lead)


def test_a_merged_passage_has_the_id_of_its_best_part_and_the_span_of_all() -> None:
    (merged,) = merge_adjacent([passage(8, (5, 6), 0.9), passage(7, (1, 3), 0.4), passage(9, (7, 7), 0.2)])
    assert (merged.chunk_id, merged.score, merged.span) == (8, 0.9, (7, 9))
    assert (merged.line_from, merged.line_to) == (1, 7)
    assert merged.text == "text 7\n\ntext 8\ntext 9"


@pytest.mark.parametrize(
    "other",
    [
        passage(2, (5, 5)),
        passage(2, (3, 3), document_id=2),
        passage(2, (3, 3), lead="| a | b |"),
        msgspec.structs.replace(passage(2, (3, 3)), heading=("B",)),
    ],
    ids=["farther", "another document", "a table", "another section"],
)
def test_passages_that_are_not_adjacent_stay_apart(other: Passage) -> None:
    first = passage(1, (1, 2))
    assert merge_adjacent([other, first]) == [other, first]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), unique=True, max_size=12).map(
        lambda merged: [passage(document * 100 + line, (line, line), document_id=document) for document, line in merged]
    )
)
def test_every_passage_is_in_one_merged_passage_in_the_order_of_the_best(parts: list[Passage]) -> None:
    wholes = merge_adjacent(parts)
    texts = [line for whole in wholes for line in whole.text.split("\n") if line]
    assert sorted(texts) == sorted(part.text for part in parts)
    ids = [part.chunk_id for part in parts]
    assert [whole.chunk_id for whole in wholes] == sorted((whole.chunk_id for whole in wholes), key=ids.index)
    for whole in wholes:
        first, last = whole.span or (whole.chunk_id, whole.chunk_id)
        inside = [part for part in parts if part.document_id == whole.document_id and first <= part.chunk_id <= last]
        assert {part.text for part in inside} == set(whole.text.split("\n")) - {""}
        assert min(ids.index(part.chunk_id) for part in inside) == ids.index(whole.chunk_id)
