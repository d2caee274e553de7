"""How much each of a client's texts has to do with a query: told by a cross-encoder, or by the embedding model."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.catalog import ResolvedModel
from models.encoder.client import EncoderClient
from server.errors import UnknownModel
from server.resources.embedding import Embeddings

_SLICE = 16  # texts that are read before others have their turn, and before a client's going is noticed
_LONGEST = 100_000  # characters; no cross-encoder reads further

Scorer = Literal["cross-encoder", "embedding"]


class Scores(NamedTuple):
    """Of each text, 0 to 1, and what they were told by. `num_tokens`: that were read for all of them."""

    scores: NDArray[np.float32]
    model: str
    scorer: Scorer
    num_tokens: int


class CurrentReranker:
    """The reranker in whichever encoder process runs now, which `encoder` returns."""

    def __init__(self, encoder: Callable[[], EncoderClient]) -> None:
        self._encoder = encoder

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the scores of the texts. Raises `ProcessUnavailable`, `ProcessFailed`."""
        return await self._encoder().rerank(query, texts)


class Reranking:
    """`reranker` None: there is no cross-encoder, and the embedding model scores.

    `encoder` gives the process that runs now, or raises `ProcessUnavailable`.
    """

    def __init__(
        self, reranker: ResolvedModel | None, embeddings: Embeddings, encoder: Callable[[], EncoderClient]
    ) -> None:
        self.reranker = reranker
        self._embeddings = embeddings
        self._encoder = encoder

    @property
    def names(self) -> list[str]:
        """Of the models that can be asked for, the default first."""
        return [*([self.reranker.name] if self.reranker else []), self._embeddings.model.name]

    async def score(self, query: str, texts: Sequence[str], model: str | None = None) -> Scores:
        """No model, or an empty name, means the best there is. Raises `UnknownModel`, `ProcessUnavailable`,
        `ProcessFailed`."""
        if (name := model or self.names[0]) not in self.names:
            raise UnknownModel(name, self.names)
        if self.reranker is not None and name == self.reranker.name:
            return await self._read(query, texts, name)
        return await self._compare(query, texts, name)

    async def _read(self, query: str, texts: Sequence[str], name: str) -> Scores:
        """By a model that reads query and text together, as far as it reads."""
        encoder = self._encoder()
        starts = range(0, len(texts), _SLICE)
        slices = [[text[:_LONGEST] for text in texts[start : start + _SLICE]] for start in starts]
        found = [await encoder.score_pairs(query[:_LONGEST], each) for each in slices]
        scores = np.concatenate([judged.scores for judged in found])
        if not encoder.ready.has_probabilities:
            scores = (1 + np.tanh(scores.astype(np.float64) / 2)) / 2
        num_tokens = sum(judged.num_tokens for judged in found)
        return Scores(np.clip(scores, 0, 1).astype(np.float32), name, "cross-encoder", num_tokens)

    async def _compare(self, query: str, texts: Sequence[str], name: str) -> Scores:
        """By the cosine of a text's nearest part and the query."""
        asked = await self._embeddings.embed([query], "query")
        found = await self._embeddings.parts(texts)
        cosines = np.array([np.max(parts.vectors @ asked.vectors[0]) for parts in found], np.float32)
        num_tokens = sum(asked.num_tokens) + sum(sum(parts.tokens) for parts in found)
        return Scores(np.clip(cosines, 0, 1), name, "embedding", num_tokens)
