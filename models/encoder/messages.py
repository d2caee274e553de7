"""What the server and the encoder process say to each other."""

from typing import Literal

import msgspec

from models.ipc import Refused


class Load(msgspec.Struct, tag=True, frozen=True):
    """First frame to the encoder; it answers `Ready` or `Refused`."""

    path: str
    num_threads: int


class Embed(msgspec.Struct, tag=True, frozen=True):
    id: int
    texts: list[str]
    kind: Literal["query", "document"]


class Ready(msgspec.Struct, tag=True, frozen=True):
    dimension: int
    fingerprint: str
    max_tokens: int


class Embedded(msgspec.Struct, tag=True, frozen=True):
    """`vectors`: little-endian float32, row by row. `error` instead, when these texts could not be embedded."""

    id: int
    vectors: bytes = b""
    error: str | None = None


ToEncoder = Load | Embed
FromEncoder = Ready | Embedded | Refused
