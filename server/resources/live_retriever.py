"""Where questions are searched: the vector space that is complete, with its own embedder; and when that is another.

The indexer says which space it is, in the database. While it makes another, the encoder also holds the former embedder.
If that cannot be loaded any more, passages are found by their words alone until the new space is complete.
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
_RETIRED_S = 60.0  # searches that began in the former space are over by then


class SearchSpace(NamedTuple):
    """A vector space to search in."""

    fingerprint: str
    dimension: int


class QuestionEmbedder:
    """Embeds questions into one space."""

    def __init__(self, encoder: EncoderClient, fingerprint: str) -> None:
        self._encoder = encoder
        self._fingerprint = fingerprint

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, one a row. Raises `ProcessFailed`."""
        ready = self._encoder.ready
        if self._fingerprint in (ready.fingerprint, _WORDS_ALONE):
            return await self._encoder.embed_queries(texts)
        if ready.previous is not None and ready.previous.fingerprint == self._fingerprint:
            return await self._encoder.embed_queries_with_previous(texts)
        raise ProcessFailed("encoder", "it was started again without the former embedding model")


class LiveRetriever:
    """Owns the retriever. `encoder` returns the running process, or raises `ProcessUnavailable`; so does
    `check_database` until the indexer has made the database."""

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
        self._place: SearchSpace | None = None
        self._retriever: Retriever | None = None
        self._retired: list[tuple[float, Retriever]] = []  # when they may be closed

    def current(self) -> Retriever:
        """Return the retriever of the space that was complete when last looked at. Raises `ProcessUnavailable`."""
        self._check_database()
        if self._retriever is None:
            ready = self._encoder().ready
            self._place = _place(self._data, ready)
            self._retriever = self._open(self._place, ready)
        return self._retriever

    def embedder(self) -> QuestionEmbedder:
        """For the same space. Raises `ProcessUnavailable`."""
        encoder = self._encoder()
        return QuestionEmbedder(encoder, self._place.fingerprint if self._place else encoder.ready.fingerprint)

    @property
    def is_in_previous_space(self) -> bool:
        """While the space of the embedder that is set is being made."""
        try:
            return self._place is not None and self._place.fingerprint != self._encoder().ready.fingerprint
        except ProcessUnavailable:
            return False

    @property
    def is_by_words_alone(self) -> bool:
        return self._place is not None and self._place.fingerprint == _WORDS_ALONE

    async def follow(self) -> None:
        """Takes in what is new, and another space once it is the complete one: opened aside, then exchanged."""
        encoder = self._encoder()
        place = await asyncio.to_thread(_place, self._data, encoder.ready)
        retriever = self.current()
        if place == self._place:
            await retriever.catch_up()
        else:
            other = self._open(place, encoder.ready)
            try:
                await other.catch_up()
            except BaseException:
                await asyncio.to_thread(other.close)
                raise
            self._place, self._retriever = place, other
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
            if self._place == SearchSpace(encoder.ready.fingerprint, encoder.ready.dimension):
                await encoder.unload_previous()

    def _open(self, place: SearchSpace, ready: EncoderReady) -> Retriever:
        if place.fingerprint == _WORDS_ALONE:
            reason = ready.previous_error or "the former embedding model is not there"
            _log.warning("until all is embedded anew, passages are found by their words alone: %s", reason)
        reranker = self._reranker if ready.has_reranker else None
        return Retriever(self._data, *place, reranker, self._dense_weight, self._note)


def _place(data: Path, ready: EncoderReady) -> SearchSpace:
    """Where to search, with the embedders that there are."""
    space = SqliteCatalog(data).vector_space()
    if space is None or space.fingerprint == ready.fingerprint:
        return SearchSpace(ready.fingerprint, ready.dimension)
    if ready.previous is not None and ready.previous.fingerprint == space.fingerprint:
        return SearchSpace(space.fingerprint, ready.previous.dimension)
    return SearchSpace(_WORDS_ALONE, ready.dimension)
