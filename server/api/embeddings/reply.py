"""Embedding requests as texts, and vectors as replies."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.encoder.messages import TextKind
from server.api.embeddings.cl100k import UnknownRank, decode_tokens
from server.api.embeddings.wire import (
    MAX_TEXTS,
    EmbeddingList,
    EmbeddingObject,
    EmbeddingRequest,
    EmbeddingUsage,
    LlamaCppEmbedding,
)
from server.errors import RequestError
from server.resources.embedding import EmbeddingService, TextEmbeddings, unit

_KINDS: dict[str, TextKind] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
}
_NO_TRUNCATION = (False, "NONE", "none")  # values of `truncate` that refuse texts that are too long


class EmbeddingInput(NamedTuple):
    """The texts to embed. `field` is where they stand in the request; `is_list` is false for a single text."""

    texts: list[str]
    kind: TextKind
    field: str
    is_list: bool

    def path(self, index: int) -> str:
        return f"{self.field}[{index}]" if self.is_list else self.field


def embedding_input(data: EmbeddingRequest) -> EmbeddingInput:
    """Return the texts of the request. Raises `RequestError`."""
    field = "content" if data.input is None and data.content is not None else "input"
    value: Any = data.content if field == "content" else data.input
    if value is None:
        raise RequestError("The input is missing; send a text or a list of texts.", field, "missing_required_parameter")
    is_list = isinstance(value, list) and not (value and all(isinstance(each, int) for each in value))
    items = value if is_list else [value]
    if not items:
        raise RequestError("The input is empty; send at least one text.", field, "invalid_value")
    if len(items) > MAX_TEXTS:
        raise RequestError(f"These are {len(items)} texts; send at most {MAX_TEXTS}.", field, "invalid_value")
    inputs = EmbeddingInput([], _kind_of(data.input_type), field, is_list)
    inputs.texts.extend(_text_of(item, inputs.path(index)) for index, item in enumerate(items))
    return inputs


def _text_of(item: str | int | list[int], path: str) -> str:
    if isinstance(item, int):
        raise RequestError("Send a list of texts, of lists of tokens, or of tokens.", path, "invalid_value")
    if not item:
        raise RequestError("This text is empty; send a text with content.", path, "invalid_value")
    if isinstance(item, str):
        return item
    try:
        return decode_tokens(item)
    except UnknownRank as error:
        raise RequestError(
            f"There is no token {error.rank} in cl100k_base, in which lists of tokens are read. Send texts instead; "
            "in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False).",
            path,
            "invalid_value",
        ) from None


def _kind_of(input_type: str | None) -> TextKind:
    if not input_type:
        return "document"
    if (kind := _KINDS.get(input_type.lower())) is None:
        raise RequestError(f"Unknown input_type; use one of: {', '.join(_KINDS)}.", "input_type", "invalid_value")
    return kind


async def embed_request(data: EmbeddingRequest, embeddings: EmbeddingService) -> TextEmbeddings:
    """Return the vectors of the request's texts, cut to the requested dimension.

    Raises `RequestError`, `UnknownModel`, `ProcessUnavailable`, `ProcessFailed`.
    """
    inputs = embedding_input(data)
    embeddings.check(data.model)
    dimension = _dimension(data.dimensions, embeddings)
    result = await embeddings.embed(inputs.texts, inputs.kind)
    if data.truncate in _NO_TRUNCATION:
        _refuse_long(inputs, result.num_tokens, embeddings.max_tokens)
    if dimension < result.vectors.shape[1]:
        result = result._replace(vectors=unit(result.vectors[:, :dimension]))
    return result


def _dimension(requested: int | None, embeddings: EmbeddingService) -> int:
    own, least = embeddings.dimension, embeddings.min_dimension
    if requested is None or requested == own or (least and least <= requested < own):
        return requested or own
    reason = f"{least} to {own}" if least else f"{own}, and cannot be cut"
    raise RequestError(f"The dimensions of {embeddings.model.name} are {reason}.", "dimensions")


def _refuse_long(inputs: EmbeddingInput, num_tokens: Sequence[int], max_tokens: int) -> None:
    for index, count in enumerate(num_tokens):
        if count > max_tokens:
            raise RequestError(
                f"This model's maximum context length is {max_tokens} tokens. However, this text resulted in {count}"
                " tokens. Without truncate it is embedded in parts. (context_length_exceeded)",
                inputs.path(index),
                "context_length_exceeded",
            )


def embedding_list(result: TextEmbeddings, model: str, encoding: str | None) -> EmbeddingList:
    total = sum(result.num_tokens)
    return EmbeddingList(
        [EmbeddingObject(index, encode_vector(vector, encoding)) for index, vector in enumerate(result.vectors)],
        model,
        EmbeddingUsage(total, total),
    )


def encode_vector(vector: NDArray[np.float32], encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers


def llamacpp_embeddings(result: TextEmbeddings) -> list[LlamaCppEmbedding]:
    return [LlamaCppEmbedding(index, [vector.tolist()]) for index, vector in enumerate(result.vectors)]
