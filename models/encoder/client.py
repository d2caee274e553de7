"""What the server holds of the encoder process."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.client import ProcessClient, open_process, reading
from models.encoder.messages import Embed, Embedded, FromEncoder, Load, Ready
from models.errors import ProcessFailed
from models.offline import OFFLINE


class EncoderClient(ProcessClient[Ready, Embedded]):
    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension). Raises `ProcessFailed`."""
        return await self._embed(texts, "query")

    async def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension). Raises `ProcessFailed`."""
        return await self._embed(texts, "document")

    async def _embed(self, texts: Sequence[str], kind: Literal["query", "document"]) -> NDArray[np.float32]:
        replies = self.exchange(lambda id: Embed(id, list(texts), kind))
        async with contextlib.aclosing(replies):
            reply = await anext(replies)
        if reply.error is not None:
            raise ProcessFailed("encoder", reply.error)
        return np.frombuffer(reply.vectors, "<f4").reshape(len(texts), self.hello.dimension)


def _replies(frame: FromEncoder) -> Iterable[tuple[int, Embedded]]:
    return ((frame.id, frame),) if isinstance(frame, Embedded) else ()


@contextlib.asynccontextmanager
async def open_encoder(path: Path, num_threads: int = 0) -> AsyncIterator[EncoderClient]:
    """Starts an encoder process and waits until the model is loaded; `ProcessFailed` says why it is not."""
    load = Load(str(path), num_threads)
    async with open_process("encoder", "models.encoder.process", FromEncoder, OFFLINE, load, Ready) as (child, ready):
        client = EncoderClient(child, ready, _replies)
        async with reading(client):
            yield client
