"""Embedding requests to texts, and vectors to replies."""

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
_WHOLE = (False, "NONE", "none")  # what `truncate` says where a text must not be too long


class EmbeddingInput(NamedTuple):
    """What is to be embedded. `field` is where it stands in the request; `is_list` unless it stood alone."""

    texts: list[str]
    kind: TextKind
    field: str
    is_list: bool

    def path(self, index: int) -> str:
        return f"{self.field}[{index}]" if self.is_list else self.field


def embedding_input(asked: EmbeddingRequest) -> EmbeddingInput:
    """Raises `RequestError`."""
    field = "content" if asked.input is None and asked.content is not None else "input"
    given: Any = asked.content if field == "content" else asked.input
    if given is None:
        raise RequestError("There is no input; it is a text or a list of texts.", field, "missing_required_parameter")
    is_list = isinstance(given, list) and not (given and all(isinstance(each, int) for each in given))
    items = given if is_list else [given]
    if not items:
        raise RequestError("The input is empty; there is nothing to embed.", field, "invalid_value")
    if len(items) > MAX_TEXTS:
        raise RequestError(f"These are {len(items)} texts; at most {MAX_TEXTS} go at once.", field, "invalid_value")
    told = EmbeddingInput([], _kind_of(asked.input_type), field, is_list)
    told.texts.extend(_text_of(item, told.path(index)) for index, item in enumerate(items))
    return told


def _text_of(item: str | int | list[int], path: str) -> str:
    if isinstance(item, int):
        raise RequestError("A list is of texts, of lists of tokens, or of tokens alone.", path, "invalid_value")
    if not item:
        raise RequestError("This text is empty; there is nothing to embed.", path, "invalid_value")
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
        raise RequestError(f"The input_type is one of {', '.join(_KINDS)}.", "input_type", "invalid_value")
    return kind


async def embed_request(asked: EmbeddingRequest, embeddings: EmbeddingService) -> TextEmbeddings:
    """Raises `RequestError`, `UnknownModel`, `ProcessUnavailable`, `ProcessFailed`."""
    told = embedding_input(asked)
    embeddings.check(asked.model)
    dimension = _dimension(asked.dimensions, embeddings)
    found = await embeddings.embed(told.texts, told.kind)
    if asked.truncate in _WHOLE:
        _refuse_long(told, found.num_tokens, embeddings.max_tokens)
    if dimension < found.vectors.shape[1]:
        found = found._replace(vectors=unit(found.vectors[:, :dimension]))
    return found


def _dimension(wanted: int | None, embeddings: EmbeddingService) -> int:
    own, least = embeddings.dimension, embeddings.min_dimension
    if wanted is None or wanted == own or (least and least <= wanted < own):
        return wanted or own
    reason = f"{least} to {own}" if least else f"{own}, and cannot be cut"
    raise RequestError(f"The dimensions of {embeddings.model.name} are {reason}.", "dimensions")


def _refuse_long(told: EmbeddingInput, num_tokens: Sequence[int], most: int) -> None:
    for index, count in enumerate(num_tokens):
        if count > most:
            raise RequestError(
                f"This model's maximum context length is {most} tokens. However, this text resulted in {count} tokens."
                " Without truncate it is embedded in parts. (context_length_exceeded)",
                told.path(index),
                "context_length_exceeded",
            )


def embedding_list(found: TextEmbeddings, model: str, encoding: str | None) -> EmbeddingList:
    total = sum(found.num_tokens)
    return EmbeddingList(
        [EmbeddingObject(index, encode_vector(vector, encoding)) for index, vector in enumerate(found.vectors)],
        model,
        EmbeddingUsage(total, total),
    )


def encode_vector(vector: NDArray[np.float32], encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers


def llamacpp_embeddings(found: TextEmbeddings) -> list[LlamaCppEmbedding]:
    return [LlamaCppEmbedding(index, [vector.tolist()]) for index, vector in enumerate(found.vectors)]
