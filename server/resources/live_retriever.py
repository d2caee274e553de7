"""The retriever of the vector space that is complete now, which changes when the embedding model does.

The indexer writes into the database which space is complete. While it builds another, the encoder also holds the
previous embedding model. If that cannot be loaded any more, search uses words alone until the new space is complete.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import IndexingError
from index.params import DENSE_WEIGHT
from index.search.retriever import Retriever
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Reranker
from models.encoder.client import EncoderClient
from models.encoder.messages import EncoderReady
from models.errors import ModelError, ProcessFailed, ProcessUnavailable

_log = logging.getLogger(__name__)

_WORDS_ALONE = "none"  # a space without vectors
_FOLLOW_S = 0.5  # between two looks at the database while nobody searches
_RETIRED_S = 60.0  # searches that began in the previous space have ended by then


class QuestionSpace(NamedTuple):
    """The vector space that questions are embedded into and searched in."""

    fingerprint: str
    dimension: int


class QuestionEmbedder:
    """Embeds questions into one space."""

    def __init__(self, encoder: EncoderClient, fingerprint: str) -> None:
        self._encoder = encoder
        self._fingerprint = fingerprint

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, one a row. Raises `ProcessFailed`."""
        ready = self._encoder.ready
        if self._fingerprint in (ready.fingerprint, _WORDS_ALONE):
            return await self._encoder.embed_queries(texts)
        if ready.previous is not None and ready.previous.fingerprint == self._fingerprint:
            return await self._encoder.embed_queries_with_previous(texts)
        raise ProcessFailed("encoder", "it was started again without the previous embedding model")


class LiveRetriever:
    """Owns the retriever, and replaces it when another vector space is complete.

    `encoder` returns the running process, or raises `ProcessUnavailable`; so does `check_database` until the indexer
    has created the database. `note` is called with the name and the seconds of each stage of a search.
    """

    def __init__(
        self,
        data: Path,
        encoder: Callable[[], EncoderClient],
        reranker: Reranker,
        dense_weight: float = DENSE_WEIGHT,
        note: Callable[[str, float], None] = lambda *_: None,
        check_database: Callable[[], None] = lambda: None,
    ) -> None:
        self._data = data
        self._encoder = encoder
        self._reranker = reranker
        self._dense_weight = dense_weight
        self._note = note
        self._check_database = check_database
        self._space: QuestionSpace | None = None
        self._retriever: Retriever | None = None
        self._retired: list[tuple[float, Retriever]] = []  # when they may be closed

    def current(self) -> Retriever:
        """Return the retriever of the space that was complete when last looked at. Raises `ProcessUnavailable`."""
        self._check_database()
        if self._retriever is None:
            ready = self._encoder().ready
            self._space = _choose_space(self._data, ready)
            self._retriever = self._open(self._space, ready)
        return self._retriever

    def embedder(self) -> QuestionEmbedder:
        """Return the embedder of the space that `current` searches. Raises `ProcessUnavailable`."""
        encoder = self._encoder()
        return QuestionEmbedder(encoder, self._space.fingerprint if self._space else encoder.ready.fingerprint)

    @property
    def is_in_previous_space(self) -> bool:
        """True while the space of the configured embedding model is being built."""
        try:
            return self._space is not None and self._space.fingerprint != self._encoder().ready.fingerprint
        except ProcessUnavailable:
            return False

    @property
    def is_by_words_alone(self) -> bool:
        """True while no embedding model for the complete space can be loaded."""
        return self._space is not None and self._space.fingerprint == _WORDS_ALONE

    async def follow(self) -> None:
        """Take in new documents, or another space once it is complete: its retriever is opened, then exchanged."""
        encoder = self._encoder()
        space = await asyncio.to_thread(_choose_space, self._data, encoder.ready)
        retriever = self.current()
        if space == self._space:
            await retriever.catch_up()
        else:
            other = self._open(space, encoder.ready)
            try:
                await other.catch_up()
            except BaseException:
                await asyncio.to_thread(other.close)
                raise
            self._space, self._retriever = space, other
            self._retired.append((time.monotonic() + _RETIRED_S, retriever))
        await self._close_retired(encoder)

    async def follow_always(self, started: Iterable[Callable[[], Awaitable[object]]]) -> None:
        """Follow the database while nobody searches, so that no search has much to catch up with.

        Begins when each of `started` has returned.
        """
        for wait in started:
            await wait()
        while True:
            with contextlib.suppress(ModelError, IndexingError):  # the next search raises it to a client
                await self.follow()
            await asyncio.sleep(_FOLLOW_S)

    def close(self) -> None:
        for _, retriever in self._retired:
            retriever.close()
        if self._retriever is not None:
            self._retriever.close()

    async def _close_retired(self, encoder: EncoderClient) -> None:
        while self._retired and self._retired[0][0] <= time.monotonic():
            _, retriever = self._retired.pop(0)
            await asyncio.to_thread(retriever.close)
            if self._space == QuestionSpace(encoder.ready.fingerprint, encoder.ready.dimension):
                await encoder.unload_previous()

    def _open(self, space: QuestionSpace, ready: EncoderReady) -> Retriever:
        if space.fingerprint == _WORDS_ALONE:
            reason = ready.previous_error or "the previous embedding model is not there"
            _log.warning("passages are found by their words alone until all documents are embedded again: %s", reason)
        reranker = self._reranker if ready.has_reranker else None
        return Retriever(self._data, space.fingerprint, space.dimension, reranker, self._dense_weight, self._note)


def _choose_space(data: Path, ready: EncoderReady) -> QuestionSpace:
    """Return the space to search in with the embedding models that are loaded."""
    space = SqliteCatalog(data).vector_space()
    if space is None or space.fingerprint == ready.fingerprint:
        return QuestionSpace(ready.fingerprint, ready.dimension)
    if ready.previous is not None and ready.previous.fingerprint == space.fingerprint:
        return QuestionSpace(space.fingerprint, ready.previous.dimension)
    return QuestionSpace(_WORDS_ALONE, ready.dimension)
