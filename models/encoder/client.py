"""The server's side of the encoder process."""

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
    """The parts of one text: unit vectors, shape (number of parts, dimension), and the tokens of each part."""

    vectors: NDArray[np.float32]
    tokens: list[int]


class PairScores(NamedTuple):
    """One score for each text, on the model's own scale, and the tokens of all pairs as the model read them."""

    scores: NDArray[np.float32]
    num_tokens: int


class EncoderClient(ProcessClient[EncoderReady, EncoderReply]):
    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (len(texts), dimension). Raises `ProcessFailed`."""
        values = await self._values(lambda id: Embed(id, list(texts), "query"))
        return values.reshape(len(texts), self.ready.dimension)

    async def embed_queries_with_previous(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of the previous embedder, which must be loaded. Raises `ProcessFailed`."""
        assert self.ready.previous is not None, "the caller has checked that there is a previous embedder"
        values = await self._values(lambda id: Embed(id, list(texts), "query", use_previous=True))
        return values.reshape(len(texts), self.ready.previous.dimension)

    async def unload_previous(self) -> None:
        """Free the previous embedder. Raises `ProcessFailed`."""
        await self._child.send(UnloadPrevious())

    async def embed_parts(
        self, texts: Sequence[str], kind: TextKind, *, is_low_priority: bool = False
    ) -> list[PartEmbeddings]:
        """Embed each text, in parts where it is longer than the model reads. Raises `ProcessFailed`.

        `is_low_priority`: every other request goes first.
        """
        reply = await self._reply(lambda id: EmbedParts(id, list(texts), kind, is_low_priority))
        vectors = np.frombuffer(reply.values, "<f4").reshape(-1, self.ready.dimension)
        ends = list(itertools.accumulate(map(len, reply.tokens), initial=0))
        return [
            PartEmbeddings(vectors[start:end], tokens)
            for (start, end), tokens in zip(itertools.pairwise(ends), reply.tokens, strict=True)
        ]

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one score for each text, on the model's own scale; higher is better. Raises `ProcessFailed`."""
        return (await self.score_pairs(query, texts)).scores

    async def score_pairs(self, query: str, texts: Sequence[str]) -> PairScores:
        """Return the scores that `rerank` returns, with the number of tokens read. Raises `ProcessFailed`."""
        reply = await self._reply(lambda id: Rerank(id, query, list(texts)))
        return PairScores(np.frombuffer(reply.values, "<f4"), sum(map(sum, reply.tokens)))

    async def _values(self, request: Callable[[int], msgspec.Struct]) -> NDArray[np.float32]:
        return np.frombuffer((await self._reply(request)).values, "<f4")

    async def _reply(self, request: Callable[[int], msgspec.Struct]) -> EncoderReply:
        replies = self.exchange(request)
        async with contextlib.aclosing(replies):
            reply = await anext(replies)
        if reply.error is not None:
            raise ProcessFailed("encoder", reply.error)
        return reply


def _replies_of(frame: FromEncoder) -> Iterable[tuple[int, EncoderReply]]:
    return ((frame.id, frame),) if isinstance(frame, EncoderReply) else ()


@contextlib.asynccontextmanager
async def open_encoder(
    embedder: ModelFiles,
    reranker: ModelFiles | None = None,
    num_threads: int = 0,
    previous: ModelFiles | None = None,
) -> AsyncIterator[EncoderClient]:
    """Start an encoder process and wait until its models are loaded. Raises `ProcessFailed` when they cannot be."""
    load = LoadEncoder(embedder, reranker, num_threads, previous)
    opening = open_process("encoder", "models.encoder.process", FromEncoder, OFFLINE, load, EncoderReady)
    async with opening as (child, ready):
        client = EncoderClient(child, ready, _replies_of)
        async with deliver_replies(client):
            yield client
