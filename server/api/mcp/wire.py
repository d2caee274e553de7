"""Arguments and results of the MCP tools. Language models read the field descriptions."""

from typing import Annotated

import msgspec
from msgspec import Meta


class SearchArguments(msgspec.Struct, frozen=True):
    query: Annotated[
        str, Meta(min_length=1, max_length=10_000, description="What to look for, as a question or in key words.")
    ]
    collections: Annotated[
        list[str] | None, Meta(description="Names of the collections to search; all of them if left out.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=50, description="Most passages to return.")] = 10


class FetchArguments(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(min_length=1, max_length=64, description="An id from search, or the next of a fetch.")]


class NoArguments(msgspec.Struct, frozen=True):
    pass


class McpPassage(msgspec.Struct, frozen=True):
    """A passage. `place` is the page, slide or rows, null where `lines` say it. `relevance` is null when unknown."""

    id: str
    title: str
    url: str
    text: str
    collection: str
    path: str
    lines: tuple[int, int]
    place: str | None
    score: float
    relevance: float | None


class McpSearchResults(msgspec.Struct, frozen=True):
    """The passages, best first."""

    results: list[McpPassage]


class McpDocumentMetadata(msgspec.Struct, frozen=True):
    """A document's metadata.

    `passages` says which of all the text has, such as "1–20 of 60". `next` is the id of the text behind them, null at
    the end. `note` says what part of the file could not be read.
    """

    collection: str
    path: str
    passages: str
    next: str | None
    note: str | None


class McpDocument(msgspec.Struct, frozen=True):
    id: str
    title: str
    text: str
    url: str
    metadata: McpDocumentMetadata


class McpCollection(msgspec.Struct, frozen=True):
    name: str
    documents: int
    passages: int


class McpCollections(msgspec.Struct, frozen=True):
    collections: list[McpCollection]
