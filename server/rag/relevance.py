"""Which of the passages found have to do with the question at all. There is always a best one; it may be nonsense.

What speaks for a passage is how like the question it is, in standard deviations above questions about anything, and how
many of the question's words it has. Together they tell better than either, and by one floor for every corpus and
embedder. Calibrated by `scripts/eval/relevance.py` (docs/benchmarks.md, Retrieval).
"""

import math
from collections.abc import Sequence

import msgspec

from index.search.explain import Explanation, Outcome
from index.types import Evidence, Passage

FLOOR = 6.5
_ALONE = 1.0  # what the question alone must come to, so that its conversation counts: else the subject is another
_COVERAGE = 3.0  # standard deviations that all of a question's words are worth
_COVERAGE_ALONE = 12.0  # the same, for a passage without a vector
_STEEPNESS = 0.5  # of the way from no relevance to all, for each standard deviation


def relevance(passage: Passage) -> float | None:
    """To be compared with `FLOOR`; of the query it fits best. None when nothing is known. The first query is the
    question alone."""
    if not passage.evidence:
        return None
    weights = [_weighed(each) for each in passage.evidence]
    return max(weights) if weights[0] >= _ALONE else weights[0]


def relevant(passages: Sequence[Passage]) -> list[Passage]:
    """Those that have to do with a query they were found by, in their order; none when nothing has. Passages of which
    nothing is known stay."""
    return [p for p in passages if (known := relevance(p)) is None or known >= FLOOR]


def scores(passages: Sequence[Passage]) -> list[float]:
    """In 0..1, in their order, which also say whether anything has to do with the question: the best one's is about .5
    where a passage is just relevant enough to be given to a model."""
    known = [found for passage in passages if (found := relevance(passage)) is not None]
    confidence = 1 / (1 + math.exp(-_STEEPNESS * (max(known) - FLOOR))) if known else 1.0
    return [passage.score * confidence for passage in passages]


def refused(explanation: Explanation) -> Explanation:
    """What was found and has too little to do with the question is below the floor."""
    passage = explanation.passage
    if explanation.outcome != Outcome.FOUND or passage is None or relevant([passage]):
        return explanation
    reason = f"it was found, and has too little to do with the question: {relevance(passage):.1f}, of {FLOOR} needed"
    return msgspec.structs.replace(explanation, outcome=Outcome.BELOW_FLOOR, reason=reason)


def _weighed(evidence: Evidence) -> float:
    if evidence.z_score is None:
        return _COVERAGE_ALONE * evidence.coverage
    return evidence.z_score + _COVERAGE * evidence.coverage
