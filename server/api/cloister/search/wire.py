"""POST /v1/search on the wire."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from index.search.explanation import Outcome
from index.types import Filters


class ExpectedFile(msgspec.Struct, frozen=True):
    """A file that a search should find. `path` is relative to the collection's folder; `collection` null means any."""

    path: str
    collection: str | None = None


class SearchRequest(msgspec.Struct, frozen=True):
    """A search. With `explain`, the reply says why the file `expect`, or the file of that path, is not a result."""

    query: Annotated[str, Meta(min_length=1, max_length=100_000)]
    collections: list[str] | None = None
    top_k: Annotated[int, Meta(ge=1, le=100)] | None = None
    filters: Filters | None = None
    explain: bool = False
    expect: ExpectedFile | str | None = None


class SearchResult(msgspec.Struct, frozen=True):
    """A passage.

    `similarity` is the cosine to the query, null without a vector. `place` is the page, slide or rows, null where
    `lines` say it. `relevance`, 0 to 1, is null when unknown. `also_in` are other files with the same text.
    """

    text: str
    collection: str
    path: str
    heading: tuple[str, ...]
    lines: tuple[int, int]
    place: str | None
    score: float
    similarity: float | None
    document_id: int
    chunk_id: int
    url: str
    relevance: float | None
    also_in: tuple[str, ...]


class ExplainedFile(msgspec.Struct, frozen=True):
    """An expected file with its outcome in the search.

    The ranks of its best passage count from 1: by vectors, by words, in the fusion of both, among the results. They
    are null where it was not found. `instead` are the results in its place.
    """

    collection: str | None
    path: str
    outcome: Outcome
    reason: str
    dense_rank: int | None
    words_rank: int | None
    fused_rank: int | None
    rank: int | None
    passage: SearchResult | None
    instead: list[SearchResult]


class SearchExplanation(msgspec.Struct, frozen=True):
    """`floor` is the least `relevance` with which a passage is given to a model."""

    floor: float
    expected: list[ExplainedFile]


class SearchResults(msgspec.Struct, frozen=True):
    query: str
    data: list[SearchResult]
    explanation: SearchExplanation | None = None
    object: Literal["list"] = "list"
