"""What the server and the encoder's processes say to each other."""

from typing import Literal

import msgspec

from models.encoder.exports import Role
from models.ipc import Refused


class ModelFiles(msgspec.Struct, frozen=True):
    """A model ready to be loaded. `source` names its own files; `export` is the folder of its conversion.

    Without an `export` it is run by sentence-transformers.
    """

    path: str
    source: str
    export: str | None


class Load(msgspec.Struct, tag=True, frozen=True):
    """First frame to the encoder; it answers `Ready` or `Refused`."""

    embedder: ModelFiles
    reranker: ModelFiles | None
    num_threads: int


class Embed(msgspec.Struct, tag=True, frozen=True):
    id: int
    texts: list[str]
    kind: Literal["query", "document"]


class Rerank(msgspec.Struct, tag=True, frozen=True):
    id: int
    query: str
    texts: list[str]


class Ready(msgspec.Struct, tag=True, frozen=True):
    dimension: int
    fingerprint: str
    max_tokens: int
    has_reranker: bool


class Numbers(msgspec.Struct, tag=True, frozen=True):
    """The answer to `Embed`, vector by vector, or to `Rerank`, score by score: little-endian float32.

    `error` instead, when these texts could not be dealt with.
    """

    id: int
    values: bytes = b""
    error: str | None = None


class Convert(msgspec.Struct, tag=True, frozen=True):
    """The only frame to the exporter: make `export` of `path`, unless it is there by now."""

    path: str
    source: str
    export: str
    role: Role


class Converted(msgspec.Struct, tag=True, frozen=True):
    """`export` holds a conversion, or the reason why there is none. `error`: the model itself cannot be loaded."""

    error: str | None = None


ToEncoder = Load | Embed | Rerank
FromEncoder = Ready | Numbers | Refused
FromExporter = Converted | Refused
