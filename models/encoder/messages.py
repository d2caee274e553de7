"""What the server and the encoder's processes say to each other."""

from typing import Literal

import msgspec

from models.encoder.exports import EncoderTask
from models.ipc import ChildFailure

TextKind = Literal["query", "document"]


class ModelFiles(msgspec.Struct, frozen=True):
    """A model ready to be loaded. `source` names its own files; `export` is the folder of its conversion.

    Without an `export` it is run by sentence-transformers.
    """

    path: str
    source: str
    export: str | None


class LoadEncoder(msgspec.Struct, tag=True, frozen=True):
    """First frame to the encoder; it answers `EncoderReady` or `ChildFailure`.

    `previous` is the embedder before this one, in whose space questions are answered until all is embedded anew.
    """

    embedder: ModelFiles
    reranker: ModelFiles | None
    num_threads: int
    previous: ModelFiles | None = None


class Embed(msgspec.Struct, tag=True, frozen=True):
    """A text that is longer than the model reads is cut."""

    id: int
    texts: list[str]
    kind: TextKind
    use_previous: bool = False


class EmbedParts(msgspec.Struct, tag=True, frozen=True):
    """A text that is longer than the model reads is embedded in parts. `is_low_priority`: it gives way to everything
    else."""

    id: int
    texts: list[str]
    kind: TextKind
    is_low_priority: bool = False


class UnloadPrevious(msgspec.Struct, tag=True, frozen=True):
    """The former embedder is needed no more, and may leave the memory."""


class Rerank(msgspec.Struct, tag=True, frozen=True):
    id: int
    query: str
    texts: list[str]


class EmbedderInfo(msgspec.Struct, frozen=True):
    """A loaded embedder."""

    fingerprint: str
    dimension: int


class EncoderReady(msgspec.Struct, tag=True, frozen=True):
    """`previous`: as far as it was asked for and could be loaded; else `previous_error` says why not.

    `has_probabilities`: the reranker's scores lie in 0..1; else they are logits.
    """

    dimension: int
    fingerprint: str
    max_tokens: int
    has_reranker: bool
    has_probabilities: bool = False
    previous: EmbedderInfo | None = None
    previous_error: str | None = None


class EncoderReply(msgspec.Struct, tag=True, frozen=True):
    """The answer to `Embed` or `EmbedParts`, vector by vector, or to `Rerank`, score by score: little-endian float32.

    `tokens`: of each part of each text, or of each pair, as the model reads it; not for `Embed`. `error` instead, when
    these texts could not be dealt with.
    """

    id: int
    values: bytes = b""
    tokens: list[list[int]] = []
    error: str | None = None


class Convert(msgspec.Struct, tag=True, frozen=True):
    """The only frame to the exporter: make `export` of `path`, unless it is there by now."""

    path: str
    source: str
    export: str
    role: EncoderTask


class Converted(msgspec.Struct, tag=True, frozen=True):
    """`export` holds a conversion, or the reason why there is none. `error`: the model itself cannot be loaded."""

    error: str | None = None


ToEncoder = LoadEncoder | Embed | EmbedParts | Rerank | UnloadPrevious
FromEncoder = EncoderReady | EncoderReply | ChildFailure
FromExporter = Converted | ChildFailure
