"""Texts to vectors for clients: any number of texts, of any length, behind the questions that are asked meanwhile."""

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

_CHARACTERS = 16  # a token has fewer, as a rule: so much at least the encoder is given at once
_SLICE = 16  # texts that are embedded before others have their turn, and before a client's going is noticed
_FEW = 4  # texts that may be as urgent as a question


class Embedded(NamedTuple):
    """Unit vectors, one a row, and the tokens of each text as the model read them."""

    vectors: NDArray[np.float32]
    num_tokens: list[int]


class Embeddings:
    """The embedding model. `encoder` gives the process that runs now, or raises `ProcessUnavailable`.

    `min_dimension`: the fewest numbers to which its vectors may be cut; 0: they may not.
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
        """Of a text that the model reads as one. Raises `ProcessUnavailable`."""
        return self._encoder().ready.max_tokens

    def check(self, name: str | None) -> None:
        """No name, or an empty one, means this model. Raises `UnknownModel`."""
        if name and name != self.model.name:
            raise UnknownModel(name, [self.model.name])

    async def embed(self, texts: Sequence[str], kind: TextKind = "document") -> Embedded:
        """A text that is longer than the model reads has the mean of its parts, each weighted by its tokens.

        Raises `ProcessUnavailable`, `ProcessFailed`.
        """
        found = await self.parts(texts, kind)
        vectors = [_mean(parts) for parts in found]
        stacked = np.stack(vectors) if vectors else np.empty((0, self.dimension), np.float32)
        return Embedded(stacked, [sum(parts.tokens) for parts in found])

    async def parts(self, texts: Sequence[str], kind: TextKind = "document") -> list[PartEmbeddings]:
        """The vectors of each text's parts. Raises `ProcessUnavailable`, `ProcessFailed`."""
        encoder = self._encoder()
        size = _CHARACTERS * encoder.ready.max_tokens
        segments = await asyncio.to_thread(
            lambda: [[p.text for p in split_into_parts(text, len, size)] for text in texts]
        )
        flat = [segment for each in segments for segment in each]
        is_low_priority = len(flat) > _FEW or sum(map(len, flat)) > size
        found: list[PartEmbeddings] = []
        for start in range(0, len(flat), _SLICE):
            found += await encoder.embed_parts(flat[start : start + _SLICE], kind, is_low_priority=is_low_priority)
        return list(_joined(found, [len(each) for each in segments]))


def _joined(found: Sequence[PartEmbeddings], counts: Sequence[int]) -> Iterator[PartEmbeddings]:
    """The parts of so many segments each as those of one text."""
    segments = iter(found)
    for count in counts:
        own = list(itertools.islice(segments, count))
        yield PartEmbeddings(
            np.concatenate([parts.vectors for parts in own]), [n for parts in own for n in parts.tokens]
        )


def _mean(parts: PartEmbeddings) -> NDArray[np.float32]:
    """The only part's own vector, bit by bit."""
    if len(parts.tokens) == 1:
        return parts.vectors.reshape(-1)
    return unit(np.asarray(parts.tokens, np.float32) @ parts.vectors)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of length 1; one of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
