"""What the server holds of the encoder process."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.client import ProcessClient, open_process, reading
from models.encoder.messages import (
    Embed,
    EmbedParts,
    ForgetFormer,
    FromEncoder,
    Kind,
    Load,
    ModelFiles,
    Numbers,
    Ready,
    Rerank,
)
from models.errors import ProcessFailed
from models.offline import OFFLINE


class Parts(NamedTuple):
    """Of a text: a unit vector for each part that the model read, one a row, and the part's tokens."""

    vectors: NDArray[np.float32]
    tokens: list[int]


class Judged(NamedTuple):
    """One score a text, on the model's own scale, and the tokens of all pairs as the model read them."""

    scores: NDArray[np.float32]
    num_tokens: int


class EncoderClient(ProcessClient[Ready, Numbers]):
    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension). Raises `ProcessFailed`."""
        numbers = await self._numbers(lambda id: Embed(id, list(texts), "query"))
        return numbers.reshape(len(texts), self.hello.dimension)

    async def embed_queries_with_previous(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The same by the former embedder, of its dimension, which must be there. Raises `ProcessFailed`."""
        assert self.hello.former is not None, "whoever asks has looked"
        numbers = await self._numbers(lambda id: Embed(id, list(texts), "query", by_former=True))
        return numbers.reshape(len(texts), self.hello.former.dimension)

    async def forget_former(self) -> None:
        """Raises `ProcessFailed`."""
        await self._child.send(ForgetFormer())

    async def embed_parts(self, texts: Sequence[str], kind: Kind, *, is_low_priority: bool = False) -> list[Parts]:
        """Of each text. With `is_low_priority` everything else comes first. Raises `ProcessFailed`."""
        reply = await self._reply(lambda id: EmbedParts(id, list(texts), kind, is_low_priority))
        vectors = np.frombuffer(reply.values, "<f4").reshape(-1, self.hello.dimension)
        ends = list(itertools.accumulate(map(len, reply.tokens), initial=0))
        return [
            Parts(vectors[start:end], tokens)
            for (start, end), tokens in zip(itertools.pairwise(ends), reply.tokens, strict=True)
        ]

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """One score a text, on the model's own scale; higher is better. Raises `ProcessFailed`."""
        return (await self.judge(query, texts)).scores

    async def judge(self, query: str, texts: Sequence[str]) -> Judged:
        """The same, with the tokens that were read. Raises `ProcessFailed`."""
        reply = await self._reply(lambda id: Rerank(id, query, list(texts)))
        return Judged(np.frombuffer(reply.values, "<f4"), sum(map(sum, reply.tokens)))

    async def _numbers(self, request: Callable[[int], msgspec.Struct]) -> NDArray[np.float32]:
        return np.frombuffer((await self._reply(request)).values, "<f4")

    async def _reply(self, request: Callable[[int], msgspec.Struct]) -> Numbers:
        replies = self.exchange(request)
        async with contextlib.aclosing(replies):
            reply = await anext(replies)
        if reply.error is not None:
            raise ProcessFailed("encoder", reply.error)
        return reply


def _replies(frame: FromEncoder) -> Iterable[tuple[int, Numbers]]:
    return ((frame.id, frame),) if isinstance(frame, Numbers) else ()


@contextlib.asynccontextmanager
async def open_encoder(
    embedder: ModelFiles,
    reranker: ModelFiles | None = None,
    num_threads: int = 0,
    former: ModelFiles | None = None,
) -> AsyncIterator[EncoderClient]:
    """Starts an encoder process and waits until the models are loaded; `ProcessFailed` says why they are not."""
    load = Load(embedder, reranker, num_threads, former)
    async with open_process("encoder", "models.encoder.process", FromEncoder, OFFLINE, load, Ready) as (child, ready):
        client = EncoderClient(child, ready, _replies)
        async with reading(client):
            yield client
