"""The index's state and its commands on the wire."""

from typing import Literal

import msgspec

from index.ingest.progress import Activity
from index.storage.records import CollectionStatus


class CurrentFile(msgspec.Struct, frozen=True):
    collection: str
    path: str


class EmbedderSwitch(msgspec.Struct, frozen=True):
    """The progress of embedding all chunks with another model, in chunks.

    Until it is done, searches use the vectors of the former model, or only "words" if that cannot be loaded.
    """

    done: int | None
    total: int | None
    answers_from: Literal["former", "words"]


class IndexStatus(msgspec.Struct, frozen=True):
    """The state of the indexer and of each collection.

    `indexer` is "ready", or the reason why not. `activity` is "waiting" because of `error`. Rates are of the last ten
    seconds; `seconds_left` is null when nothing is left or it is unknown. `lag_s` is how long the index has been behind
    the folders, in seconds. `switch` is null unless the embedding model is changing.
    """

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


class ReloadReply(msgspec.Struct, frozen=True):
    """The names of the collections that are indexed now."""

    collections: list[str]
    object: Literal["index.reloaded"] = "index.reloaded"


class RescanRequest(msgspec.Struct, frozen=True):
    """A rescan of a `collection`, null for all, or only of its failed file with this `path`.

    `accept_deletions` deletes documents whose files are missing from the folder but are still in the index.
    """

    collection: str | None = None
    accept_deletions: bool = False
    path: str | None = None
