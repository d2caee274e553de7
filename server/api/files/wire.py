"""/v1/files on the wire, as OpenAI's clients send and read it."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType


class FileObject(msgspec.Struct, frozen=True):
    """`bytes` is the size; times are Unix seconds."""

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
    """Seconds after the upload: an hour to thirty days."""

    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]
    anchor: Literal["created_at"] = "created_at"
