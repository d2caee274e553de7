import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.types import Evidence, Passage
from server.rag.relevance import FLOOR, filter_relevant, relevance


def passage(*evidence: Evidence, id: int = 1) -> Passage:
    return Passage(id, 3, "notes", "a.md", (), "text", 1, 2, score=0.5, evidence=evidence)


@pytest.mark.parametrize(
    ("evidence", "is_relevant"),
    [
        ([Evidence(8.0, 0.0)], True),
        ([Evidence(6.0, 0.0)], False),
        ([Evidence(4.5, 0.8)], True),
        ([Evidence(0.0, 1.0)], False),
        ([Evidence(-1.0, 0.5)], False),
        ([Evidence(None, 0.6)], True),
        ([Evidence(None, 0.3)], False),
        ([Evidence(2.0, 0.0), Evidence(9.0, 0.6)], True),
        ([Evidence(0.5, 0.0), Evidence(9.0, 0.6)], False),
        ([Evidence(8.0, 0.0), Evidence(1.0, 0.0)], True),
    ],
    ids=[
        *("alike", "a little alike", "alike with words", "words alone", "unlike", "no vector, words", "no vector, few"),
        *("with the conversation", "another subject", "the question alone"),
    ],
)
def test_similarity_and_word_coverage_decide_whether_a_passage_is_relevant(
    evidence: list[Evidence], is_relevant: bool
) -> None:
    each = passage(*evidence)
    assert filter_relevant([each]) == ([each] if is_relevant else [])


def test_passages_without_evidence_stay() -> None:
    assert relevance(passage()) is None
    assert filter_relevant([passage()]) == [passage()]
    assert filter_relevant([]) == []


@given(st.lists(st.tuples(st.floats(-3, 20), st.floats(0, 1)), max_size=8))
def test_filtering_by_relevance_keeps_the_order(evidence: list[tuple[float, float]]) -> None:
    passages = [passage(Evidence(*each), id=id) for id, each in enumerate(evidence)]
    kept = filter_relevant(passages)
    assert [p.chunk_id for p in kept] == sorted(p.chunk_id for p in kept)
    assert all(((relevance(p) or 0) >= FLOOR) == (p in kept) for p in passages)


def test_relevance_grows_with_similarity_and_with_coverage() -> None:
    base = relevance(passage(Evidence(4.0, 0.4)))
    assert base is not None
    for better in (Evidence(4.1, 0.4), Evidence(4.0, 0.5)):
        assert (relevance(passage(better)) or 0) > base


def test_a_passage_keeps_its_evidence() -> None:
    original = passage(Evidence(None, 0.5), Evidence(1.0, 0.0))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(original), type=Passage) == original
