"""What the server holds of the encoder process."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.client import ProcessClient, deliver_replies, open_process
from models.encoder.messages import (
    Embed,
    EmbedParts,
    EncoderReady,
    EncoderReply,
    FromEncoder,
    LoadEncoder,
    ModelFiles,
    Rerank,
    TextKind,
    UnloadPrevious,
)
from models.errors import ProcessFailed
from models.offline import OFFLINE


class PartEmbeddings(NamedTuple):
    """Of a text: a unit vector for each part that the model read, one a row, and the part's tokens."""

    vectors: NDArray[np.float32]
    tokens: list[int]


class PairScores(NamedTuple):
    """One score a text, on the model's own scale, and the tokens of all pairs as the model read them."""

    scores: NDArray[np.float32]
    num_tokens: int


class EncoderClient(ProcessClient[EncoderReady, EncoderReply]):
    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension). Raises `ProcessFailed`."""
        numbers = await self._numbers(lambda id: Embed(id, list(texts), "query"))
        return numbers.reshape(len(texts), self.ready.dimension)

    async def embed_queries_with_previous(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The same by the former embedder, of its dimension, which must be there. Raises `ProcessFailed`."""
        assert self.ready.previous is not None, "whoever asks has looked"
        numbers = await self._numbers(lambda id: Embed(id, list(texts), "query", use_previous=True))
        return numbers.reshape(len(texts), self.ready.previous.dimension)

    async def unload_previous(self) -> None:
        """Raises `ProcessFailed`."""
        await self._child.send(UnloadPrevious())

    async def embed_parts(
        self, texts: Sequence[str], kind: TextKind, *, is_low_priority: bool = False
    ) -> list[PartEmbeddings]:
        """Of each text. With `is_low_priority` everything else comes first. Raises `ProcessFailed`."""
        reply = await self._reply(lambda id: EmbedParts(id, list(texts), kind, is_low_priority))
        vectors = np.frombuffer(reply.values, "<f4").reshape(-1, self.ready.dimension)
        ends = list(itertools.accumulate(map(len, reply.tokens), initial=0))
        return [
            PartEmbeddings(vectors[start:end], tokens)
            for (start, end), tokens in zip(itertools.pairwise(ends), reply.tokens, strict=True)
        ]

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """One score a text, on the model's own scale; higher is better. Raises `ProcessFailed`."""
        return (await self.score_pairs(query, texts)).scores

    async def score_pairs(self, query: str, texts: Sequence[str]) -> PairScores:
        """The same, with the tokens that were read. Raises `ProcessFailed`."""
        reply = await self._reply(lambda id: Rerank(id, query, list(texts)))
        return PairScores(np.frombuffer(reply.values, "<f4"), sum(map(sum, reply.tokens)))

    async def _numbers(self, request: Callable[[int], msgspec.Struct]) -> NDArray[np.float32]:
        return np.frombuffer((await self._reply(request)).values, "<f4")

    async def _reply(self, request: Callable[[int], msgspec.Struct]) -> EncoderReply:
        replies = self.exchange(request)
        async with contextlib.aclosing(replies):
            reply = await anext(replies)
        if reply.error is not None:
            raise ProcessFailed("encoder", reply.error)
        return reply


def _replies(frame: FromEncoder) -> Iterable[tuple[int, EncoderReply]]:
    return ((frame.id, frame),) if isinstance(frame, EncoderReply) else ()


@contextlib.asynccontextmanager
async def open_encoder(
    embedder: ModelFiles,
    reranker: ModelFiles | None = None,
    num_threads: int = 0,
    previous: ModelFiles | None = None,
) -> AsyncIterator[EncoderClient]:
    """Starts an encoder process and waits until the models are loaded; `ProcessFailed` says why they are not."""
    load = LoadEncoder(embedder, reranker, num_threads, previous)
    opening = open_process("encoder", "models.encoder.process", FromEncoder, OFFLINE, load, EncoderReady)
    async with opening as (child, ready):
        client = EncoderClient(child, ready, _replies)
        async with deliver_replies(client):
            yield client
