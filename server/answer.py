"""One answer in the making: text as it comes, the citations in it, and what it cost."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from models.llm.language_model import TextDelta
from models.llm.sequence import FinishReason
from server.rag.citations import Citation, MarkerFilter
from server.rag.prompts import Source


class Answer:
    """Owns the generation; `close` cancels what is left of it. Without sources no marker is touched."""

    def __init__(self, num_prompt: int, sources: Mapping[int, Source] | None, deltas: AsyncGenerator[TextDelta, None]):
        self.num_prompt = num_prompt
        self.num_generated = 0
        self.num_cached = 0
        self.finish_reason = FinishReason.STOP
        self.sources = sources or {}
        self._markers = None if sources is None else MarkerFilter(frozenset(sources))
        self._deltas = deltas
        self._first: TextDelta | None = None

    async def start(self) -> None:
        """Waits for the first token, so that whatever prevents an answer is raised before its first byte is sent."""
        try:
            self._first = await anext(self._deltas)
        except BaseException:  # a cancellation too: the engine must not go on for nobody
            await self.close()
            raise

    async def text(self) -> AsyncIterator[str]:
        """Non-empty pieces. Raises `ProcessFailed` when the engine dies meanwhile."""
        async with contextlib.aclosing(self._deltas):
            if self._first is not None:
                if piece := self._take(self._first):
                    yield piece
                async for delta in self._deltas:
                    if piece := self._take(delta):
                        yield piece

    def _take(self, delta: TextDelta) -> str:
        self.num_generated += delta.num_tokens
        self.num_cached = delta.num_cached
        self.finish_reason = delta.finish_reason or self.finish_reason
        if self._markers is None:
            return delta.text
        return self._markers.feed(delta.text, final=delta.finish_reason is not None)

    @property
    def citations(self) -> list[Citation]:
        """In the order of the text; complete when `text` has ended."""
        return [] if self._markers is None else self._markers.citations

    async def close(self) -> None:
        """Idempotent."""
        await self._deltas.aclose()
