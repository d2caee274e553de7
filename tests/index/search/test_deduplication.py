from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index.search.deduplication import DropReason, deduplicate
from index.types import Passage, Vectors


def _passage(id: int, document: int, text: str | None = None) -> Passage:
    return Passage(id, document, "notes", f"{document}.md", (), text or f"text {id}", 1, 1, score=1 - id / 100)


def _vectors(passages: Sequence[Passage], repeats: Mapping[int, int]) -> dict[int, Vectors]:
    axes = np.eye(100, dtype=np.float32)
    return {p.chunk_id: axes[repeats.get(p.chunk_id, p.chunk_id)] for p in passages}


def _kept_ids(passages: list[Passage], k: int, repeats: dict[int, int] | None = None) -> list[int]:
    """Return the ids that are kept. `repeats` maps a passage to the one that it nearly repeats; others are unlike."""
    vectors = _vectors(passages, repeats or {})
    return [p.chunk_id for p in deduplicate(passages, k, vectors).passages]


def test_one_of_several_equal_texts_is_kept() -> None:
    passages = [_passage(1, 1, "same"), _passage(2, 2, "same"), _passage(3, 3)]
    assert _kept_ids(passages, 3) == [1, 3]


def test_equal_texts_under_different_headings_are_both_kept() -> None:
    passages = [_passage(1, 1, "same"), msgspec.structs.replace(_passage(2, 2, "same"), heading=("B",))]
    assert _kept_ids(passages, 2) == [1, 2]


def test_a_near_duplicate_is_kept_only_where_there_is_room() -> None:
    passages = [_passage(id, id) for id in range(1, 5)]
    assert _kept_ids(passages, 3, {2: 1}) == [1, 3, 4]
    assert _kept_ids(passages, 4, {2: 1}) == [1, 2, 3, 4]


def test_one_document_has_at_most_half_of_the_passages_unless_there_are_no_others() -> None:
    passages = [_passage(id, 1) for id in range(1, 7)] + [_passage(7, 2), _passage(8, 3)]
    assert _kept_ids(passages, 4) == [1, 2, 7, 8]
    assert _kept_ids(passages, 6) == [1, 2, 3, 4, 7, 8]
    assert _kept_ids(passages[:6], 4) == [1, 2, 3, 4]
    assert _kept_ids(passages, 1) == [1]
    assert _kept_ids(passages, 0) == []


def test_passages_without_a_vector_are_compared_by_their_text() -> None:
    assert len(deduplicate([_passage(1, 1), _passage(2, 2)], 2, {}).passages) == 2


def test_dropped_passages_have_a_reason_and_kept_ones_name_their_files() -> None:
    passages = [
        _passage(1, 1, "same"),
        _passage(2, 1),
        _passage(3, 2, "same"),
        _passage(4, 3),
        _passage(5, 1, "same"),
        _passage(6, 4, "same"),
        _passage(7, 1),
        _passage(8, 5),
        _passage(9, 6),
    ]
    kept, left_out = deduplicate(passages, 3, _vectors(passages, {4: 1}))
    assert [(p.chunk_id, p.also_in) for p in kept] == [
        (1, ("notes/2.md", "notes/3.md", "notes/4.md")),
        (8, ()),
        (9, ()),
    ]
    assert [(o.passage.chunk_id, o.reason, o.original and o.original.chunk_id) for o in left_out] == [
        (2, DropReason.DOCUMENT, None),
        (3, DropReason.EQUAL, 1),
        (4, DropReason.REPEATS, 1),
        (5, DropReason.EQUAL, 1),
        (6, DropReason.EQUAL, 1),
        (7, DropReason.DOCUMENT, None),
    ]


def test_a_duplicate_of_a_dropped_near_duplicate_is_named_at_the_kept_passage() -> None:
    passages = [_passage(1, 1), _passage(2, 2, "twice"), _passage(3, 3, "twice"), _passage(4, 4)]
    kept, _ = deduplicate(passages, 2, _vectors(passages, {2: 1}))
    assert [(p.chunk_id, p.also_in) for p in kept] == [(1, ("notes/2.md", "notes/3.md")), (4, ())]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3)), max_size=12),
    st.integers(0, 8),
)
def test_every_passage_is_kept_or_dropped_and_k_are_kept_if_there_are_k_texts(
    rows: list[tuple[int, int, int]], k: int
) -> None:
    passages = [_passage(id, document, f"text {text}") for id, (document, text, _) in enumerate(rows)]
    kept, left_out = deduplicate(passages, k, _vectors(passages, {id: like for id, (_, _, like) in enumerate(rows)}))
    assert len(kept) == min(k, len({p.text for p in passages}))
    assert sorted([p.chunk_id for p in kept] + [o.passage.chunk_id for o in left_out]) == list(range(len(rows)))
    named_files = {file for p in kept for file in p.also_in}
    assert named_files <= {p.file for p in passages}
    assert all(p.file not in p.also_in for p in kept)
