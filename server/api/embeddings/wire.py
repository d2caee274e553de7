"""POST /v1/embeddings on the wire, in OpenAI's form and in llama.cpp's."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_TEXTS = 2048  # of one request

_Texts = str | Annotated[list[str | int | list[int]], Meta(max_length=1_000_000)]  # also the tokens of a single text


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed. `content` is llama.cpp's name of `input`. `truncate` false or "NONE" refuses texts that are too
    long."""

    input: _Texts | None = None
    content: _Texts | None = None
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    input_type: str | None = None
    truncate: bool | str | None = None


class EmbeddingObject(msgspec.Struct, frozen=True):
    """A vector. `embedding` is a list of numbers, or base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True):
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


class LlamaCppEmbedding(msgspec.Struct, frozen=True):
    """A vector in llama.cpp's form: a list of the one vector of the text."""

    index: int
    embedding: list[list[float]]
