"""Events of a bare completion while it is being generated, ended early by the bounds of the request.

Editors ask at every keystroke and prefer a part of the completion in time to all of it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from models.llm.chat.events import Content, EndReason, TurnEnd, TurnEvent
from models.llm.chat.logprobs import ScoredToken
from models.llm.chat.text_stream import TextDelta
from models.llm.engine.sequence import FinishReason
from models.llm.params import CompletionBounds


class BoundedCompletion:
    """The events of one completion."""

    def __init__(self, bounds: CompletionBounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = bounds
        self._clock = clock
        self._first_at: float | None = None
        self._has_line = False
        self._pending = ""  # the end of a line and the white space after it
        self._tokens: list[ScoredToken] = []  # of the held text
        self._num_generated = 0
        self.is_ended = False

    def feed(self, delta: TextDelta) -> list[TurnEvent]:
        self._num_generated += delta.num_tokens
        self._first_at = self._clock() if self._first_at is None else self._first_at
        self._tokens += delta.tokens
        text, is_short = self._emit_lines(delta.text, is_last=delta.finish_reason is not None)
        self._has_line = self._has_line or "\n" in delta.text
        events: list[TurnEvent] = []
        if text:
            events.append(Content(text, tuple(self._tokens)))
            self._tokens = []
        if delta.finish_reason is not None or is_short or self._is_late:
            is_cut = delta.finish_reason in (FinishReason.LENGTH, None)
            events.append(self._end(EndReason.LENGTH if is_cut else EndReason.STOP, delta))
        return events

    def _end(self, reason: EndReason, delta: TextDelta) -> TurnEnd:
        self.is_ended = True
        return TurnEnd(reason, self._num_generated, 0, delta.num_cached, delta.stopped_by)

    @property
    def _is_late(self) -> bool:
        limit = self._bounds.predict_s
        assert self._first_at is not None
        return limit is not None and self._has_line and self._clock() - self._first_at > limit

    def _emit_lines(self, text: str, *, is_last: bool) -> tuple[str, bool]:
        """Return the text that can be emitted, and whether a line begins too far left, which ends the completion."""
        if not self._bounds.indent:
            return text, False
        ready, pending = "", self._pending + text
        while (at := pending.find("\n")) >= 0:
            line = pending[at + 1 :]
            rest = line.lstrip(" \t")
            if not rest and not is_last:
                break
            if rest and not rest.startswith("\n") and len(line) - len(rest) < self._bounds.indent:
                self._pending = ""
                return ready + pending[:at], True
            ready, pending = ready + pending[: at + 1], line
        if at < 0:
            ready, pending = ready + pending, ""
        else:
            ready, pending = ready + pending[:at], pending[at:]
        self._pending = pending
        return ready, False


async def completion_events(
    deltas: AsyncGenerator[TextDelta, None], bounds: CompletionBounds, *, is_read_only: bool = False
) -> AsyncGenerator[list[TurnEvent], None]:
    """Yield the events of each step, maybe none; the very last is a `TurnEnd`.

    `is_read_only`: the prompt is read into memory and nothing is generated; the engine reads it only together with a
    first token, which is left out.
    """
    completion = BoundedCompletion(bounds)
    async with contextlib.aclosing(deltas):
        try:
            async with asyncio.timeout(bounds.prompt_s):
                first = await anext(deltas)
        except TimeoutError:
            yield [TurnEnd(EndReason.LENGTH, 0, 0, 0)]
            return
        if is_read_only:
            yield [TurnEnd(EndReason.LENGTH, 0, 0, first.num_cached)]
            return
        yield completion.feed(first)
        async for delta in deltas:
            if completion.is_ended:
                return
            yield completion.feed(delta)
