"""What the library keeps: uploaded files, vector stores, and which file is in which. Times are Unix seconds."""

import secrets
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from index.params import Chunking

Attribute = str | bool | int | float
Attributes = dict[str, Attribute]

_DAY = 86_400  # seconds


def new_id(kind: str) -> str:
    """24 hexadecimal digits; those of a watched file begin with zeros, so these never do."""
    return f"{kind}-{secrets.choice('123456789abcdef')}{secrets.token_hex(12)[1:]}"


class Kept(msgspec.Struct, frozen=True):
    """A file whose content is on disk. `size` is in bytes. `owner`: the key that brought it, where that sees only some
    collections; "" for everybody."""

    id: str
    size: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None = None
    owner: str = ""


class Store(msgspec.Struct, frozen=True):
    """`days`: after that many without use its files leave it. `owner` as of a file. `collection`: the watched folder
    that it is."""

    id: str
    name: str
    created_at: int
    last_active_at: int
    description: str | None = None
    days: int | None = None
    metadata: dict[str, str] = {}
    owner: str = ""
    collection: str | None = None

    @property
    def expires_at(self) -> int | None:
        return None if self.days is None else self.last_active_at + self.days * _DAY


class Status(StrEnum):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Failure(msgspec.Struct, frozen=True):
    """Why a file cannot be searched. `code`: `unsupported_file`, `invalid_file` or `server_error`."""

    code: str
    message: str


class Wanted(NamedTuple):
    """A file to be put into a store. `chunking` None: as suits the embedder."""

    file_id: str
    attributes: Attributes
    chunking: Chunking | None = None


class Member(msgspec.Struct, frozen=True):
    """A file in a store. `document_id` is the index's, None while it has none."""

    store_id: str
    file_id: str
    filename: str
    size: int
    created_at: int
    status: Status
    attributes: Attributes
    chunking: Chunking | None = None
    failure: Failure | None = None
    document_id: int | None = None


class Batch(msgspec.Struct, frozen=True):
    """Files put into a store together. `cancelled_at` None: not."""

    id: str
    store_id: str
    created_at: int
    cancelled_at: int | None = None


class Counts(NamedTuple):
    """Files by their status, and the bytes of those that are completed."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    size: int = 0

    @property
    def total(self) -> int:
        return self.in_progress + self.completed + self.failed + self.cancelled


def counted(members: Sequence[Member]) -> Counts:
    by_status = Counter(member.status for member in members)
    return Counts(
        in_progress=by_status[Status.IN_PROGRESS],
        completed=by_status[Status.COMPLETED],
        failed=by_status[Status.FAILED],
        cancelled=by_status[Status.CANCELLED],
        size=sum(member.size for member in members if member.status == Status.COMPLETED),
    )
