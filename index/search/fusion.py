"""Fuses the rankings of dense and lexical search."""

from collections.abc import Sequence, Set
from math import fsum

from index.params import DENSE_WEIGHT
from index.types import Hits, Query


def fuse(
    queries: Sequence[Query], dense: Sequence[Hits], words: Sequence[Hits], dense_weight: float = DENSE_WEIGHT
) -> Hits:
    """Return the weighted sum of min–max scaled scores, in 0..1, best first (a convex combination: Bruch et al., arXiv
    2210.11934).

    `dense` and `words` have a ranking for each query, which counts by the query's weight. The order of the queries does
    not matter.
    """
    total = fsum(query.weight for query in queries)
    shares: dict[int, list[float]] = {}
    for query, dense_hits, word_hits in zip(queries, dense, words, strict=True):
        for arm_weight, hits in ((dense_weight, dense_hits), (1 - dense_weight, word_hits)):
            low = min((score for _, score in hits), default=0.0)
            width = max((score for _, score in hits), default=0.0) - low
            for id, score in hits:
                scaled = (score - low) / width if width else 1.0
                shares.setdefault(id, []).append(query.weight / total * arm_weight * scaled)
    scores = {id: fsum(parts) for id, parts in shares.items()}
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def best_rank(rankings: Sequence[Hits], ids: Set[int]) -> int | None:
    """Return the best rank, from 1, of any of these chunks in any of the rankings."""
    ranks = [rank for hits in rankings for rank, (id, _) in enumerate(hits, 1) if id in ids]
    return min(ranks, default=None)
