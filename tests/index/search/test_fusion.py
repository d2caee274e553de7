"""Fusion of the rankings by vectors and by words, and z-scores of cosines."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.search.calibration import NullDistribution
from index.search.fusion import fuse
from index.types import Query


@pytest.mark.parametrize(
    ("dense", "words", "expected"),
    [
        ([], [], []),
        ([(1, 0.3)], [], [(1, 0.5)]),
        ([], [(1, 7.0)], [(1, 0.5)]),
        ([(1, 0.3)], [(1, 7.0)], [(1, 1.0)]),
        ([(1, 0.9), (2, 0.5), (3, 0.1)], [], [(1, 0.5), (2, 0.25), (3, 0.0)]),
        ([(1, 0.9), (2, 0.1)], [(2, 8.0), (3, 4.0)], [(1, 0.5), (2, 0.5), (3, 0.0)]),
        ([(1, 0.9), (2, 0.8), (3, 0.1)], [(2, 8.0), (1, 2.0)], [(2, 0.9375), (1, 0.5), (3, 0.0)]),
        ([(2, 0.4), (1, 0.4)], [], [(1, 0.5), (2, 0.5)]),
        ([(1, -0.2), (2, -0.6)], [], [(1, 0.5), (2, 0.0)]),
    ],
    ids=["none", "dense", "words", "both agree", "scaled", "disjoint ends", "mixed", "ties by id", "negative"],
)
def test_fusion_averages_the_scaled_scores(
    dense: list[tuple[int, float]], words: list[tuple[int, float]], expected: list[tuple[int, float]]
) -> None:
    fused = fuse([Query("")], [dense], [words])
    assert [id for id, _ in fused] == [id for id, _ in expected]
    assert [score for _, score in fused] == pytest.approx([score for _, score in expected])


_HITS = st.dictionaries(st.integers(0, 20), st.floats(-1, 40), max_size=12).map(
    lambda scores: sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))
)
_ASKED = st.lists(st.tuples(st.floats(0.01, 10), _HITS, _HITS), min_size=1, max_size=4)
_Asked = list[tuple[float, list[tuple[int, float]], list[tuple[int, float]]]]


def _fuse(queries: _Asked) -> list[tuple[int, float]]:
    return fuse([Query("", weight) for weight, _, _ in queries], [d for _, d, _ in queries], [w for _, _, w in queries])


@given(_ASKED, st.randoms(use_true_random=False))
def test_fusion_does_not_depend_on_the_order_of_the_queries(queries: _Asked, random: Random) -> None:
    shuffled = random.sample(queries, len(queries))
    assert [(id, pytest.approx(score)) for id, score in _fuse(queries)] == _fuse(shuffled)


@given(_ASKED)
def test_the_same_query_twice_is_fused_like_that_query(queries: _Asked) -> None:
    one = _fuse(queries[:1])
    assert dict(_fuse([queries[0], queries[0]])) == pytest.approx(dict(one))
    assert _fuse([(7.0, *queries[0][1:])]) == _fuse([(1.0, *queries[0][1:])])


@given(_ASKED)
def test_fused_scores_lie_between_zero_and_one(queries: _Asked) -> None:
    fused = _fuse(queries)
    assert {id for id, _ in fused} == {id for _, *arms in queries for arm in arms for id, _ in arm}
    assert all(0 <= score <= 1 + 1e-9 for _, score in fused)
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(st.floats(0.1, 5), st.floats(-0.5, 0.5))
def test_a_z_score_does_not_depend_on_the_scale_and_shift_of_cosines(scale: float, shift: float) -> None:
    cosines = np.array([0.0, 0.1, 0.3, -0.1], np.float32)
    here, there = (
        NullDistribution.of(each[:, None], np.ones((1, 1), np.float32)) for each in (cosines, cosines * scale + shift)
    )
    assert there.z_score(0.5 * scale + shift) == pytest.approx(here.z_score(0.5), rel=1e-3)
