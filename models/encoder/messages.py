"""The frames between the server and its encoder and exporter processes."""

from typing import Literal

import msgspec

from models.encoder.exports import EncoderTask
from models.ipc import ChildFailure

TextKind = Literal["query", "document"]


class ModelFiles(msgspec.Struct, frozen=True):
    """A model that is ready to be loaded.

    `path`: its sentence-transformers folder. `source`: the name of its files, from `exports.source_of`. `export`: the
    folder of its conversion; None: it runs on sentence-transformers.
    """

    path: str
    source: str
    export: str | None


class LoadEncoder(msgspec.Struct, tag=True, frozen=True):
    """First frame to the encoder, which answers `EncoderReady` or `ChildFailure`.

    `previous`: the embedder before this one. It embeds queries until all documents are embedded with the new one.
    """

    embedder: ModelFiles
    reranker: ModelFiles | None
    num_threads: int
    previous: ModelFiles | None = None


class Embed(msgspec.Struct, tag=True, frozen=True):
    """Embed each text as one vector; a text that is longer than the model reads is truncated."""

    id: int
    texts: list[str]
    kind: TextKind
    use_previous: bool = False


class EmbedParts(msgspec.Struct, tag=True, frozen=True):
    """Embed each text as one vector, or as several when it is longer than the model reads.

    `is_low_priority`: every other request goes first.
    """

    id: int
    texts: list[str]
    kind: TextKind
    is_low_priority: bool = False


class UnloadPrevious(msgspec.Struct, tag=True, frozen=True):
    """Free the previous embedder; no request uses it any more."""


class Rerank(msgspec.Struct, tag=True, frozen=True):
    """Score each text against the query."""

    id: int
    query: str
    texts: list[str]


class EmbedderInfo(msgspec.Struct, frozen=True):
    """A loaded embedder. `fingerprint` names its vector space."""

    fingerprint: str
    dimension: int


class EncoderReady(msgspec.Struct, tag=True, frozen=True):
    """The models are loaded.

    `previous` is None when it was not asked for, or could not be loaded; `previous_error` then says why.
    `has_probabilities`: the reranker's scores lie in 0..1; otherwise they are logits.
    """

    dimension: int
    fingerprint: str
    max_tokens: int
    has_reranker: bool
    has_probabilities: bool = False
    previous: EmbedderInfo | None = None
    previous_error: str | None = None


class EncoderReply(msgspec.Struct, tag=True, frozen=True):
    """Answers `Embed` and `EmbedParts` with vectors, row by row, and `Rerank` with scores.

    `values`: little-endian float32. `tokens`: for each text the tokens of its parts, as the model reads them; for
    `Rerank` one list with the tokens of each pair; for `Embed` nothing. `error`: set when this request failed.
    """

    id: int
    values: bytes = b""
    tokens: list[list[int]] = []
    error: str | None = None


class Convert(msgspec.Struct, tag=True, frozen=True):
    """The only frame to the exporter: convert the model at `path` into the folder `export`, unless it is there."""

    path: str
    source: str
    export: str
    task: EncoderTask


class ConversionResult(msgspec.Struct, tag=True, frozen=True):
    """`export` holds a conversion, or the reason why there is none. `error`: the model itself cannot be loaded."""

    error: str | None = None


ToEncoder = LoadEncoder | Embed | EmbedParts | Rerank | UnloadPrevious
FromEncoder = EncoderReady | EncoderReply | ChildFailure
FromExporter = ConversionResult | ChildFailure
