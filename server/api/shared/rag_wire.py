"""The field `rag` of requests and replies: Cloister's own, beside the fields of each API."""

from typing import Annotated

import msgspec
from msgspec import Meta

from server.rag.options import CitationStyle, Mode

MAX_PASSAGES = 100

TopK = Annotated[int, Meta(ge=1, le=MAX_PASSAGES)]
_Pattern = Annotated[str, Meta(min_length=1, max_length=1000)]
_Patterns = Annotated[list[_Pattern], Meta(max_length=100)]


class RagFilters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The files to search. `paths` are patterns as in `.gitignore`, `kinds` endings of file names; times are in Unix
    seconds. Unknown fields are refused: ignoring a filter would search more than the client wants."""

    paths: _Patterns | None = None
    kinds: _Patterns | None = None
    modified_after: float | None = None
    modified_before: float | None = None


class RagRequest(msgspec.Struct, frozen=True):
    """How to ground the reply. `collections` null means those of the model id. With `vector_stores`, given by their
    ids, only the `collections` named here are searched too."""

    collections: Annotated[list[str], Meta(min_length=1)] | None = None
    vector_stores: Annotated[list[str], Meta(min_length=1, max_length=32)] | None = None
    top_k: TopK | None = None
    filters: RagFilters | None = None
    mode: Mode | None = None
    citations: CitationStyle | None = None


class RagPassage(msgspec.Struct, frozen=True):
    """A source in the prompt. `place` is the page, slide or rows, null where `lines` say it. `also_in` are other files
    with the same text. `is_new` is false for a source of an earlier turn."""

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
    """A search result that is not in the prompt, or not whole. `number` is null if it never was a source."""

    label: str
    reason: str
    number: int | None


class RagReply(msgspec.Struct, frozen=True):
    """The report of a reply's grounding. `tokens` counts those of this turn's passages in the prompt."""

    queries: list[str]
    passages: list[RagPassage]
    dropped: list[RagDropped]
    tokens: int
