"""Drops the passages of a ranking that repeat others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from index.types import Passage, Vectors

_NEARLY_EQUAL = 0.97  # cosine


class DropReason(StrEnum):
    """A reason to drop a passage. All but `EQUAL` are kept where there is room."""

    EQUAL = "the same text"
    REPEATS = "nearly the same text"
    DOCUMENT = "more of its document than its share"
    LATER = "outranked"


class DroppedPassage(NamedTuple):
    """`original` is the passage that says the same, if that is the reason."""

    passage: Passage
    reason: DropReason
    original: Passage | None = None


class DeduplicatedPassages(NamedTuple):
    """Both lists are in the order of the ranking."""

    passages: list[Passage]
    dropped_passages: list[DroppedPassage]


def deduplicate(passages: Sequence[Passage], k: int, vectors: Mapping[int, Vectors]) -> DeduplicatedPassages:
    """Keep the first `k` passages that say something new. `vectors` are by chunk id.

    A text that equals another is always dropped. A passage that nearly repeats another, or that a document has beyond
    half of `k`, is kept only where there are no others. A kept passage names the other files whose passages it stands
    for.
    """
    distinct: list[Passage] = []
    spare_passages: list[DroppedPassage] = []
    equal_passages: list[DroppedPassage] = []
    first_of_text: dict[tuple[tuple[str, ...], str], Passage] = {}
    num_of_document: Counter[int] = Counter()
    for passage in passages:
        first = first_of_text.setdefault((passage.heading, passage.text), passage)
        if first is not passage:
            equal_passages.append(DroppedPassage(passage, DropReason.EQUAL, first))
        elif (original := _nearly_equal(passage, distinct, vectors)) is not None:
            spare_passages.append(DroppedPassage(passage, DropReason.REPEATS, original))
        elif len(distinct) == k:
            spare_passages.append(DroppedPassage(passage, DropReason.LATER))
        elif num_of_document[passage.document_id] >= max(1, k // 2):
            spare_passages.append(DroppedPassage(passage, DropReason.DOCUMENT))
        else:
            distinct.append(passage)
            num_of_document[passage.document_id] += 1
    room = k - len(distinct)
    kept_ids = {passage.chunk_id for passage in (*distinct, *(each.passage for each in spare_passages[:room]))}
    dropped = {each.passage.chunk_id: each for each in (*equal_passages, *spare_passages[room:])}
    dropped = {passage.chunk_id: dropped[passage.chunk_id] for passage in passages if passage.chunk_id in dropped}
    kept = [passage for passage in passages if passage.chunk_id in kept_ids]
    return DeduplicatedPassages(_with_other_files(kept, dropped), list(dropped.values()))


def _nearly_equal(passage: Passage, distinct: Sequence[Passage], vectors: Mapping[int, Vectors]) -> Passage | None:
    """Return the first chosen passage that this one nearly repeats."""
    vector = vectors.get(passage.chunk_id)
    if vector is None:
        return None
    others = (other for other in distinct if other.chunk_id in vectors)
    return next((other for other in others if float(vector @ vectors[other.chunk_id]) > _NEARLY_EQUAL), None)


def _with_other_files(kept: Sequence[Passage], dropped: Mapping[int, DroppedPassage]) -> list[Passage]:
    """Return the passages with the files of those that were dropped for saying the same."""
    files: dict[int, dict[str, None]] = {passage.chunk_id: {} for passage in kept}
    for each in dropped.values():
        original = each.original
        while original is not None and original.chunk_id in dropped:  # for the sake of another one
            original = dropped[original.chunk_id].original
        if original is not None and original.file != each.passage.file:
            files[original.chunk_id][each.passage.file] = None
    return [
        msgspec.structs.replace(passage, also_in=tuple(names)) if (names := files[passage.chunk_id]) else passage
        for passage in kept
    ]
