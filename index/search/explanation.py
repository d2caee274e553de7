"""Explanations why a file is, or is not, among the passages of a question."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from index.types import Passage


class Outcome(StrEnum):
    """The stage that an expected file reached. The server adds the last two."""

    FOUND = "found"
    NOT_INDEXED = "not_indexed"
    PENDING = "pending"
    FAILED = "failed"
    NO_TEXT = "no_text"
    FILTERED = "filtered"
    OUTRANKED = "outranked"
    DROPPED = "thinned"  # by deduplication
    BELOW_FLOOR = "below_floor"
    NO_ROOM = "no_room"


class Ranks(NamedTuple):
    """Ranks of a file's best chunk, from 1: in dense search, in lexical search, and after fusion. None: not found."""

    dense: int | None = None
    words: int | None = None
    fused: int | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    collection: str | None
    path: str
    outcome: Outcome
    reason: str  # for a person
    ranks: Ranks = Ranks()
    rank: int | None = None  # among the results, from 1
    passage: Passage | None = None  # the file's best, where it became a candidate
    instead: tuple[Passage, ...] = ()  # passages that are returned in its place
