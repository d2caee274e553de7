"""Embeds the texts of clients: any number of texts, of any length, without delaying the questions of others."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.catalog import ResolvedEmbeddingModel
from models.encoder.client import EncoderClient, PartEmbeddings
from models.encoder.messages import TextKind
from models.encoder.parts import split_into_parts
from server.errors import UnknownModel

_MAX_CHARS_PER_TOKEN = 16  # as a rule; the encoder gets segments that fill its window even then
_SLICE = 16  # texts that are embedded before other requests have their turn, and before a disconnect is noticed
_MAX_URGENT = 4  # texts that may be as urgent as a question


class TextEmbeddings(NamedTuple):
    """Unit vectors, one a row, and the number of tokens that the model read of each text."""

    vectors: NDArray[np.float32]
    num_tokens: list[int]


class EmbeddingService:
    """The embedding model. `encoder` returns the process that runs now, or raises `ProcessUnavailable`.

    `min_dimension` is the smallest dimension to which its vectors may be cut; 0: they may not be cut.
    """

    def __init__(
        self, model: ResolvedEmbeddingModel, encoder: Callable[[], EncoderClient], min_dimension: int = 0
    ) -> None:
        self.model = model
        self.min_dimension = min_dimension
        self._encoder = encoder

    @property
    def dimension(self) -> int:
        """Raises `ProcessUnavailable`."""
        return self._encoder().ready.dimension

    @property
    def max_tokens(self) -> int:
        """The length of the model's window. Raises `ProcessUnavailable`."""
        return self._encoder().ready.max_tokens

    def check(self, name: str | None) -> None:
        """Raise `UnknownModel` for the name of another model. No name, or an empty one, means this model."""
        if name and name != self.model.name:
            raise UnknownModel(name, [self.model.name])

    async def embed(self, texts: Sequence[str], kind: TextKind = "document") -> TextEmbeddings:
        """Return the vectors of the texts. A text beyond the model's window has the mean of its parts, weighted by
        their tokens.

        Raises `ProcessUnavailable`, `ProcessFailed`.
        """
        parts_of_texts = await self.embed_parts(texts, kind)
        vectors = [_mean(parts) for parts in parts_of_texts]
        stacked = np.stack(vectors) if vectors else np.empty((0, self.dimension), np.float32)
        return TextEmbeddings(stacked, [sum(parts.tokens) for parts in parts_of_texts])

    async def embed_parts(self, texts: Sequence[str], kind: TextKind = "document") -> list[PartEmbeddings]:
        """Return for each text the vectors of its parts. Raises `ProcessUnavailable`, `ProcessFailed`."""
        encoder = self._encoder()
        size = _MAX_CHARS_PER_TOKEN * encoder.ready.max_tokens
        segments = await asyncio.to_thread(
            lambda: [[p.text for p in split_into_parts(text, len, size)] for text in texts]
        )
        flat = [segment for each in segments for segment in each]
        is_low_priority = len(flat) > _MAX_URGENT or sum(map(len, flat)) > size
        embedded: list[PartEmbeddings] = []
        for start in range(0, len(flat), _SLICE):
            embedded += await encoder.embed_parts(flat[start : start + _SLICE], kind, is_low_priority=is_low_priority)
        return list(_join(embedded, [len(each) for each in segments]))


def _join(embedded: Sequence[PartEmbeddings], counts: Sequence[int]) -> Iterator[PartEmbeddings]:
    """Yield the parts of each text, which come from as many segments as `counts` says."""
    segments = iter(embedded)
    for count in counts:
        own = list(itertools.islice(segments, count))
        yield PartEmbeddings(
            np.concatenate([parts.vectors for parts in own]), [n for parts in own for n in parts.tokens]
        )


def _mean(parts: PartEmbeddings) -> NDArray[np.float32]:
    """Return the vector of a text. The vector of an only part stays as it is, bit by bit."""
    if len(parts.tokens) == 1:
        return parts.vectors.reshape(-1)
    return unit(np.asarray(parts.tokens, np.float32) @ parts.vectors)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors scaled to length 1; a zero vector stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
