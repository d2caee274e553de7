"""Grounding on the wire: how a request wants it, and what came of it. Cloister's own beside every dialect's fields."""

from typing import Annotated

import msgspec
from msgspec import Meta

from server.rag.options import CitationStyle, Mode

MAX_PASSAGES = 100

TopK = Annotated[int, Meta(ge=1, le=MAX_PASSAGES)]
_Pattern = Annotated[str, Meta(min_length=1, max_length=1000)]
_Patterns = Annotated[list[_Pattern], Meta(max_length=100)]


class RagFilters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`paths` are patterns as in `.gitignore`, `kinds` endings of file names; times are Unix seconds. A field that is
    not known is refused: without it more would be searched than is meant."""

    paths: _Patterns | None = None
    kinds: _Patterns | None = None
    modified_after: float | None = None
    modified_before: float | None = None


class RagRequest(msgspec.Struct, frozen=True):
    """`collections` null: those of the model id. `vector_stores`: these, by their ids, and of collections those
    that are named here alone."""

    collections: Annotated[list[str], Meta(min_length=1)] | None = None
    vector_stores: Annotated[list[str], Meta(min_length=1, max_length=32)] | None = None
    top_k: TopK | None = None
    filters: RagFilters | None = None
    mode: Mode | None = None
    citations: CitationStyle | None = None


class RagPassage(msgspec.Struct, frozen=True):
    """A source in the prompt. `place` is the page, slide or rows, null where `lines` say it. `also_in`: other files
    that say the same. `is_new`: brought by this turn, not by one before."""

    number: int
    document_id: int
    chunk_id: int
    collection: str
    path: str
    place: str | None
    lines: tuple[int, int]
    heading: tuple[str, ...]
    score: float
    also_in: tuple[str, ...]
    url: str
    is_new: bool


class RagDropped(msgspec.Struct, frozen=True):
    """A passage that was found and is not in the prompt, or not whole. `number` is null for one that never had any."""

    label: str
    reason: str
    number: int | None


class RagReply(msgspec.Struct, frozen=True):
    """`tokens`: of this turn's passages in the prompt."""

    queries: list[str]
    passages: list[RagPassage]
    dropped: list[RagDropped]
    tokens: int
