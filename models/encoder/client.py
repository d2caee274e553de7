"""What the server holds of the encoder process."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.client import ProcessClient, open_process, reading
from models.encoder.messages import Embed, ForgetFormer, FromEncoder, Load, ModelFiles, Numbers, Ready, Rerank
from models.errors import ProcessFailed
from models.offline import OFFLINE


class EncoderClient(ProcessClient[Ready, Numbers]):
    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension). Raises `ProcessFailed`."""
        return await self._embed(texts, "query")

    async def embed_queries_formerly(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The same by the former embedder, of its dimension, which must be there. Raises `ProcessFailed`."""
        assert self.hello.former is not None, "whoever asks has looked"
        numbers = await self._numbers(lambda id: Embed(id, list(texts), "query", by_former=True))
        return numbers.reshape(len(texts), self.hello.former.dimension)

    async def forget_former(self) -> None:
        """Raises `ProcessFailed`."""
        await self._child.send(ForgetFormer())

    async def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension). Raises `ProcessFailed`."""
        return await self._embed(texts, "document")

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """One score a text, on the model's own scale; higher is better. Raises `ProcessFailed`."""
        return await self._numbers(lambda id: Rerank(id, query, list(texts)))

    async def _embed(self, texts: Sequence[str], kind: Literal["query", "document"]) -> NDArray[np.float32]:
        numbers = await self._numbers(lambda id: Embed(id, list(texts), kind))
        return numbers.reshape(len(texts), self.hello.dimension)

    async def _numbers(self, request: Callable[[int], msgspec.Struct]) -> NDArray[np.float32]:
        replies = self.exchange(request)
        async with contextlib.aclosing(replies):
            reply = await anext(replies)
        if reply.error is not None:
            raise ProcessFailed("encoder", reply.error)
        return np.frombuffer(reply.values, "<f4")


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
