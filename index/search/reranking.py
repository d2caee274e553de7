"""Puts the best passages in a reranker's order."""

from collections.abc import Sequence

import msgspec

from index.types import Passage, Reranker

MAX_RERANKED = 30  # passages; with more, rerankers lose quality and time


async def rerank(reranker: Reranker, question: str, passages: Sequence[Passage]) -> list[Passage]:
    """Return the first `MAX_RERANKED` passages in the reranker's order, and the others behind them.

    The reranker's scores are scaled to 0..1.
    """
    first, rest = list(passages[:MAX_RERANKED]), passages[MAX_RERANKED:]
    scores = await reranker.rerank(question, [passage.text for passage in first])
    low, width = min(scores), (max(scores) - min(scores)) or 1
    first = [
        msgspec.structs.replace(passage, score=float((score - low) / width))
        for passage, score in zip(first, scores, strict=True)
    ]
    first.sort(key=lambda passage: -passage.score)
    least = first[-1].score
    return first + [msgspec.structs.replace(passage, score=min(passage.score, least)) for passage in rest]
