"""Scores the texts of a client by their relevance to a query, with a cross-encoder or with the embedding model."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.catalog import ResolvedModel
from models.encoder.client import EncoderClient
from server.errors import UnknownModel
from server.resources.embedding import EmbeddingService

_SLICE = 16  # texts that are read before other requests have their turn, and before a disconnect is noticed
_MAX_CHARS = 100_000  # no cross-encoder reads further

Scorer = Literal["cross-encoder", "embedding"]


class RerankingScores(NamedTuple):
    """The score of each text, 0 to 1, and the model that gave it. `num_tokens` were read for all of them."""

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


class RerankingService:
    """Scores with a cross-encoder, or with the embedding model where `reranker` is None.

    `encoder` returns the process that runs now, or raises `ProcessUnavailable`.
    """

    def __init__(
        self, reranker: ResolvedModel | None, embeddings: EmbeddingService, encoder: Callable[[], EncoderClient]
    ) -> None:
        self.reranker = reranker
        self._embeddings = embeddings
        self._encoder = encoder

    @property
    def names(self) -> list[str]:
        """The names of the models that can score, the default first."""
        return [*([self.reranker.name] if self.reranker else []), self._embeddings.model.name]

    async def score(self, query: str, texts: Sequence[str], model: str | None = None) -> RerankingScores:
        """Return the scores of the texts by this model, the best one if it has no name or an empty one.

        Raises `UnknownModel`, `ProcessUnavailable`, `ProcessFailed`.
        """
        if (name := model or self.names[0]) not in self.names:
            raise UnknownModel(name, self.names)
        if self.reranker is not None and name == self.reranker.name:
            return await self._score_by_cross_encoder(query, texts, name)
        return await self._score_by_embedding(query, texts, name)

    async def _score_by_cross_encoder(self, query: str, texts: Sequence[str], name: str) -> RerankingScores:
        """Return the scores of a model that reads the query and each text together."""
        encoder = self._encoder()
        starts = range(0, len(texts), _SLICE)
        slices = [[text[:_MAX_CHARS] for text in texts[start : start + _SLICE]] for start in starts]
        pair_scores = [await encoder.score_pairs(query[:_MAX_CHARS], each) for each in slices]
        scores = np.concatenate([each.scores for each in pair_scores])
        if not encoder.ready.has_probabilities:
            scores = (1 + np.tanh(scores.astype(np.float64) / 2)) / 2
        num_tokens = sum(each.num_tokens for each in pair_scores)
        return RerankingScores(np.clip(scores, 0, 1).astype(np.float32), name, "cross-encoder", num_tokens)

    async def _score_by_embedding(self, query: str, texts: Sequence[str], name: str) -> RerankingScores:
        """Return the cosines of the query and the part of each text that is nearest to it."""
        query_embedding = await self._embeddings.embed([query], "query")
        parts_of_texts = await self._embeddings.embed_parts(texts)
        cosines = np.array([np.max(parts.vectors @ query_embedding.vectors[0]) for parts in parts_of_texts], np.float32)
        num_tokens = sum(query_embedding.num_tokens) + sum(sum(parts.tokens) for parts in parts_of_texts)
        return RerankingScores(np.clip(cosines, 0, 1), name, "embedding", num_tokens)
