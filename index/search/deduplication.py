"""The passages that say something new, of a ranking that repeats itself."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from index.types import Passage, Vectors

_NEARLY_EQUAL = 0.97  # cosine


class Reason(StrEnum):
    """Why a passage waits for room, or goes at once: an equal text never comes twice."""

    EQUAL = "the same text"
    REPEATS = "nearly the same text"
    DOCUMENT = "more of its document than its share"
    LATER = "outranked"


class Dropped(NamedTuple):
    """`original` is the passage that says the same, if that is the reason."""

    passage: Passage
    reason: Reason
    original: Passage | None = None


class DeduplicatedPassages(NamedTuple):
    """Both in the order of the ranking."""

    kept: list[Passage]
    left_out: list[Dropped]


def deduplicate(passages: Sequence[Passage], k: int, vectors: Mapping[int, Vectors]) -> DeduplicatedPassages:
    """The first `k` that say something new: equal texts once; what nearly repeats another, and what a document says
    beyond its half of `k`, only where nothing else is left. `vectors` by chunk id.

    A passage that stays names the other files whose passages it stands for.
    """
    chosen: list[Passage] = []
    waiting: list[Dropped] = []
    equal: list[Dropped] = []
    seen: dict[tuple[tuple[str, ...], str], Passage] = {}
    per_document: Counter[int] = Counter()
    for passage in passages:
        first = seen.setdefault((passage.heading, passage.text), passage)
        if first is not passage:
            equal.append(Dropped(passage, Reason.EQUAL, first))
        elif (original := _repeated(passage, chosen, vectors)) is not None:
            waiting.append(Dropped(passage, Reason.REPEATS, original))
        elif len(chosen) == k:
            waiting.append(Dropped(passage, Reason.LATER))
        elif per_document[passage.document_id] >= max(1, k // 2):
            waiting.append(Dropped(passage, Reason.DOCUMENT))
        else:
            chosen.append(passage)
            per_document[passage.document_id] += 1
    room = k - len(chosen)
    kept = {p.chunk_id for p in (*chosen, *(each.passage for each in waiting[:room]))}
    gone = {each.passage.chunk_id: each for each in (*equal, *waiting[room:])}
    gone = {passage.chunk_id: gone[passage.chunk_id] for passage in passages if passage.chunk_id in gone}
    return DeduplicatedPassages(_noted([p for p in passages if p.chunk_id in kept], gone), list(gone.values()))


def _repeated(passage: Passage, chosen: Sequence[Passage], vectors: Mapping[int, Vectors]) -> Passage | None:
    own = vectors.get(passage.chunk_id)
    if own is None:
        return None
    others = (other for other in chosen if other.chunk_id in vectors)
    return next((other for other in others if float(own @ vectors[other.chunk_id]) > _NEARLY_EQUAL), None)


def _noted(kept: Sequence[Passage], gone: Mapping[int, Dropped]) -> list[Passage]:
    """With the files of what was left out for saying the same."""
    files: dict[int, dict[str, None]] = {passage.chunk_id: {} for passage in kept}
    for left_out in gone.values():
        original = left_out.original
        while original is not None and original.chunk_id in gone:  # it was left out itself, for another
            original = gone[original.chunk_id].original
        if original is not None and original.file != left_out.passage.file:
            files[original.chunk_id][left_out.passage.file] = None
    return [msgspec.structs.replace(p, also_in=tuple(files[p.chunk_id])) if files[p.chunk_id] else p for p in kept]
