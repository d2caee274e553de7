"""Wire types of /v1/files, as OpenAI defines them."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType


class FileObject(msgspec.Struct, frozen=True):
    """A file. `bytes` is its size; times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | UnsetType = UNSET
    status: Literal["processed"] = "processed"
    object: Literal["file"] = "file"


class FilePage(msgspec.Struct, frozen=True):
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class FileDeleted(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = True
    object: Literal["file"] = "file"


class FileExpiry(msgspec.Struct, frozen=True):
    """The time after which a file expires: an hour to thirty days after its upload."""

    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]
    anchor: Literal["created_at"] = "created_at"
