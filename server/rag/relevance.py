"""Decides which of the passages that were found have to do with the question. Search always has a best passage, even
where nothing answers.

Two measures speak for a passage: its similarity to the question, in standard deviations above the similarity of
unrelated questions, and the share of the question's words that it has. Their sum separates better than either alone,
with one floor for every corpus and embedder. Calibrated by `scripts/eval/relevance.py` (docs/benchmarks.md, Retrieval).
"""

import math
from collections.abc import Sequence

from index.types import Evidence, Passage

FLOOR = 6.5
_MIN_ALONE = 1.0  # relevance to the question alone, below which its conversation does not count: the subject is another
_COVERAGE = 3.0  # standard deviations that all of a question's words are worth
_COVERAGE_ALONE = 12.0  # the same, for a passage without a vector
_STEEPNESS = 0.5  # of the logistic curve from relevance to confidence, for each standard deviation


def relevance(passage: Passage) -> float | None:
    """Return the passage's relevance to the query that it fits best, to be compared with `FLOOR`.

    The first query is the question alone. None when nothing is known.
    """
    if not passage.evidence:
        return None
    values = [_weigh(each) for each in passage.evidence]
    return max(values) if values[0] >= _MIN_ALONE else values[0]


def filter_relevant(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages that have to do with a query, in their order. Passages of which nothing is known stay."""
    return [p for p in passages if (known := relevance(p)) is None or known >= FLOOR]


def calibrated_scores(passages: Sequence[Passage]) -> list[float]:
    """Return scores in 0..1, in the order of the passages, that also say whether anything answers the question.

    The best one's is about .5 where a passage is just relevant enough to be given to a model.
    """
    known = [value for passage in passages if (value := relevance(passage)) is not None]
    confidence = 1 / (1 + math.exp(-_STEEPNESS * (max(known) - FLOOR))) if known else 1.0
    return [passage.score * confidence for passage in passages]


def _weigh(evidence: Evidence) -> float:
    if evidence.z_score is None:
        return _COVERAGE_ALONE * evidence.coverage
    return evidence.z_score + _COVERAGE * evidence.coverage
