"""Collections and their documents on the wire."""

from typing import Literal

import msgspec

from index.storage.records import DocumentState


class CollectionObject(msgspec.Struct, frozen=True):
    """A collection. `id` is its name; the model `cloister/NAME` answers from it alone."""

    id: str
    root: str
    documents: int
    chunks: int
    object: Literal["collection"] = "collection"


class DocumentObject(msgspec.Struct, frozen=True):
    """A file of a collection. `modified_at` is in Unix seconds. `reason` says why it failed, `note` what part of it
    could not be read. `url` shows its text in the index."""

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
    data: list[DocumentObject]
    has_more: bool
    object: Literal["list"] = "list"


class CollectionList(msgspec.Struct, frozen=True):
    data: list[CollectionObject]
    object: Literal["list"] = "list"
