"""Answers in the making: events as they come, the citations in their text, and what they cost."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import TypeGuard

import msgspec

from models.llm.chat_template import ChatMessage, ToolCall
from models.llm.scored import TokenTrail
from models.llm.tool_calls import Content, ToolCallArguments, ToolCallStart
from models.llm.turn import TurnEnd, TurnEvent
from server.rag.citations import Citation, MarkerFilter
from server.rag.prompts import Source

Steps = AsyncGenerator[list[TurnEvent], None]


class Cited(msgspec.Struct, frozen=True):
    """The citations of an answer whose text is complete; comes before its end, if there are any."""

    citations: list[Citation]


AnswerEvent = TurnEvent | Cited


class Answer:
    """One answer. Without sources no marker is touched."""

    def __init__(self, sources: Mapping[int, Source] | None) -> None:
        self._markers = None if sources is None else MarkerFilter(frozenset(sources))
        self._trail = TokenTrail()

    def feed(self, event: TurnEvent) -> list[AnswerEvent]:
        markers = self._markers
        if markers is None:
            return [event]
        match event:
            case Content(text, tokens):
                self._trail.push(tokens)
                return self._content(markers, markers.feed(text))
            case TurnEnd():
                rest = self._content(markers, markers.feed("", final=True))
                cited = [Cited(markers.citations)] if markers.citations else []
                return [*rest, *cited, event]
            case _:
                return [event]

    def _content(self, markers: MarkerFilter, text: str) -> list[AnswerEvent]:
        tokens = self._trail.take(text, markers.num_held)
        return [Content(text, tokens)] if text else []


async def remembered(steps: Steps, remember: Callable[[ChatMessage], None]) -> Steps:
    """The same events; when the answer is complete, `remember` is called with it as the message it will be."""
    told: list[TurnEvent] = []
    async with contextlib.aclosing(steps):
        async for events in steps:
            told += events
            if any(isinstance(event, TurnEnd) for event in events):
                remember(_message_of(told))
            yield events


def _message_of(events: Sequence[TurnEvent]) -> ChatMessage:
    calls = [
        ToolCall(start.id, start.name, "".join(e.text for e in events if _is_of(e, start)))
        for start in events
        if isinstance(start, ToolCallStart)
    ]
    return ChatMessage("assistant", "".join(e.text for e in events if isinstance(e, Content)), tuple(calls))


def _is_of(event: TurnEvent, start: ToolCallStart) -> TypeGuard[ToolCallArguments]:
    return isinstance(event, ToolCallArguments) and event.index == start.index


class Answers:
    """Several answers to one prompt, made at the same time. `aclose` cancels what is left of them.

    `lease` is what they need until then; whoever starts them may hand it over.
    """

    def __init__(self, num_prompt: int, sources: Mapping[int, Source] | None, steps: Sequence[Steps]) -> None:
        self.num_prompt = num_prompt
        self.sources = sources or {}
        self.ends: dict[int, TurnEnd] = {}  # by the answer's index, as far as they have come
        self._answers = [Answer(sources) for _ in steps]
        self._arrived: asyncio.Queue[tuple[int, list[TurnEvent] | Exception]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._steps = steps
        self.lease = contextlib.AsyncExitStack()
        self._first: tuple[int, list[TurnEvent]] | None = None

    def __len__(self) -> int:
        return len(self._answers)

    async def start(self) -> None:
        """Waits for the first token, so that whatever prevents an answer is raised before its first byte is sent.

        Whatever it raises, the caller closes the answers.
        """
        self._tasks = [asyncio.create_task(self._collect(index, steps)) for index, steps in enumerate(self._steps)]
        self._first = await self._next()

    async def events(self) -> AsyncIterator[tuple[int, AnswerEvent]]:
        """With the index of the answer each belongs to. Raises `ProcessFailed` when the engine dies meanwhile."""
        assert self._first, "start() comes first"
        index, events = self._first
        while True:
            for event in events:
                for told in self._answers[index].feed(event):
                    yield index, told
                if isinstance(event, TurnEnd):
                    self.ends[index] = event
            if len(self.ends) == len(self._answers):
                return
            index, events = await self._next()

    async def _collect(self, index: int, steps: Steps) -> None:
        try:
            async with contextlib.aclosing(steps):
                async for events in steps:
                    self._arrived.put_nowait((index, events))
        except Exception as error:  # told to whoever waits for the next event
            self._arrived.put_nowait((index, error))

    async def _next(self) -> tuple[int, list[TurnEvent]]:
        index, arrived = await self._arrived.get()
        if isinstance(arrived, Exception):
            raise arrived
        return index, arrived

    @property
    def num_generated(self) -> int:
        return sum(end.num_generated for end in self.ends.values())

    @property
    def num_reasoning(self) -> int:
        return sum(end.num_reasoning for end in self.ends.values())

    @property
    def num_cached(self) -> int:
        """Of the prompt, which is computed once: what the first of them found in memory."""
        return min((end.num_cached for end in self.ends.values()), default=0)

    async def aclose(self) -> None:
        """Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.lease.aclose()
