"""Bodies of the resources that are Cloister's own: search and the state of the index."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from index.ingest.progress import Activity
from index.search.explanation import Outcome
from index.storage.records import CollectionStatus, DocumentState
from index.types import Filters


class ExpectedFile(msgspec.Struct, frozen=True):
    """`path` is relative to the collection's folder; `collection` null: in any."""

    path: str
    collection: str | None = None


class SearchRequest(msgspec.Struct, frozen=True):
    """`expect`: with `explain`, a file of which is told why it is not among the results; a text is its path."""

    query: Annotated[str, Meta(min_length=1, max_length=100_000)]
    collections: list[str] | None = None
    top_k: Annotated[int, Meta(ge=1, le=100)] | None = None
    filters: Filters | None = None
    explain: bool = False
    expect: ExpectedFile | str | None = None


class SearchResult(msgspec.Struct, frozen=True):
    """`similarity` is the cosine to the question, null without a vector; `place` the page, slide or rows, null where
    `lines` say it; `relevance` how much it has to do with the question, null when nothing is known; `also_in` other
    files that say the same."""

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
    """What became of an expected file. Ranks count from 1 and are those of its best passage: by meaning, by words, in
    the fusion of both, among the results; null where it was not found. `instead`: what stands in its place."""

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
    """`floor`: passages whose `relevance` is below are not given to a model."""

    floor: float
    expected: list[ExplainedFile]


class SearchResults(msgspec.Struct, frozen=True):
    query: str
    data: list[SearchResult]
    explanation: SearchExplanation | None = None
    object: Literal["list"] = "list"


class CurrentFile(msgspec.Struct, frozen=True):
    collection: str
    path: str


class EmbedderSwitch(msgspec.Struct, frozen=True):
    """Chunks embedded by another embedding model, of all. Until it is all of them, questions are answered from the
    vectors of the former one, or, where that cannot be loaded, by "words" alone."""

    done: int | None
    total: int | None
    answers_from: Literal["former", "words"]


class IndexStatus(msgspec.Struct, frozen=True):
    """`indexer` is "ready", or why it is not; `activity` what it does, "waiting" because of `error`. Rates are those of
    the last ten seconds; `seconds_left` is null when nothing is left or nobody knows. `lag_s`: for how long the index
    has not been equal to the folders, as far as is known. `switch` is null unless the embedding model is changing."""

    indexer: str
    activity: Activity
    current: CurrentFile | None
    files_per_s: float
    bytes_per_s: float
    seconds_left: float | None
    lag_s: float
    error: str | None
    switch: EmbedderSwitch | None
    collections: list[CollectionStatus]
    object: Literal["index.status"] = "index.status"


class Reloaded(msgspec.Struct, frozen=True):
    """The names of the collections that are followed now."""

    collections: list[str]
    object: Literal["index.reloaded"] = "index.reloaded"


class RescanRequest(msgspec.Struct, frozen=True):
    """`collection` null: all. `accept_deletions`: documents that are kept although their files are gone go too. `path`:
    of the collection's files that cannot be read, only this one is tried again."""

    collection: str | None = None
    accept_deletions: bool = False
    path: str | None = None


class CollectionCard(msgspec.Struct, frozen=True):
    """`id` is the name, and `cloister/NAME` the model that answers from it alone."""

    id: str
    root: str
    documents: int
    chunks: int
    object: Literal["collection"] = "collection"


class DocumentCard(msgspec.Struct, frozen=True):
    """`modified_at` is of the file, Unix seconds. `reason`: why it cannot be read; `note`: what of it could not be.
    `url` shows what the index holds of it."""

    id: int
    path: str
    bytes: int
    modified_at: float
    state: DocumentState
    reason: str | None
    note: str | None
    chunks: int
    url: str
    object: Literal["document"] = "document"


class DocumentPage(msgspec.Struct, frozen=True):
    data: list[DocumentCard]
    has_more: bool
    object: Literal["list"] = "list"


class CollectionList(msgspec.Struct, frozen=True):
    data: list[CollectionCard]
    object: Literal["list"] = "list"
