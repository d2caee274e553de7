"""A stream of several answers to one prompt, which owns whatever it takes to make them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol, Self

from models.llm.chat.events import TurnEnd, TurnEvent
from models.llm.chat.messages import ChatMessage
from server.generation.answer import Answer, AnswerEvent, Grounding
from server.rag.history import TurnRecord

Steps = AsyncGenerator[list[TurnEvent], None]  # the events of each step of the engine

_FIRST_EVENT_S = 1.0  # a reply waits so long for its first event before it begins


class ConversationMemory(Protocol):
    """Remembers what the turns of conversations were grounded on."""

    def remember(self, record: TurnRecord, reply: ChatMessage) -> None: ...


class GenerationStream:
    """Answers to one prompt, generated at the same time. An async context manager; leaving it cancels what is left.

    `ends` holds the end of each answer that is complete, by the answer's index.
    """

    def __init__(
        self,
        num_prompt: int,
        turns: Sequence[Steps],
        resources: contextlib.AsyncExitStack,
        grounding: Grounding | None = None,
        memory: ConversationMemory | None = None,
    ) -> None:
        self.num_prompt = num_prompt  # tokens
        self.grounding = grounding
        self.ends: dict[int, TurnEnd] = {}
        self._memory = memory
        self._resources = resources
        self._answers = [Answer(grounding) for _ in turns]
        self._queue: asyncio.Queue[tuple[int, list[TurnEvent] | Exception]] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._collect(index, steps)) for index, steps in enumerate(turns)]
        self._first: tuple[int, list[TurnEvent]] | None = None

    @classmethod
    async def start(
        cls,
        num_prompt: int,
        turns: Sequence[Steps],
        resources: contextlib.AsyncExitStack,
        grounding: Grounding | None = None,
        memory: ConversationMemory | None = None,
    ) -> Self:
        """Start the turns and return their stream, which owns `resources` from now on, also when this raises.

        Waits a second for the first event, so that what prevents an answer is raised before its first byte is sent. A
        long prompt takes longer; its reply begins meanwhile.
        """
        stream = cls(num_prompt, turns, resources, grounding, memory)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_EVENT_S):
                    stream._first = await stream._next()
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def __len__(self) -> int:
        """The number of answers."""
        return len(self._answers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def events(self) -> AsyncIterator[tuple[int, AnswerEvent]]:
        """Yield the events of all answers as they come, each with the index of its answer.

        Raises `ProcessFailed` when the engine dies meanwhile.
        """
        index, events = self._first or await self._next()
        while True:
            for event in events:
                answer_events = self._answers[index].feed(event)
                if isinstance(event, TurnEnd):
                    self._finish(index, event)
                for answer_event in answer_events:
                    yield index, answer_event
            if len(self.ends) == len(self._answers):
                return
            index, events = await self._next()

    def _finish(self, index: int, end: TurnEnd) -> None:
        """Take in the end of an answer; a grounded conversation remembers the reply."""
        self.ends[index] = end
        if self._memory is not None and self.grounding is not None and self.grounding.record is not None:
            self._memory.remember(self.grounding.record, self._answers[index].reply())

    async def _collect(self, index: int, steps: Steps) -> None:
        try:
            async with contextlib.aclosing(steps):
                async for events in steps:
                    self._queue.put_nowait((index, events))
        except Exception as error:  # raised again by `_next`, to whoever waits for the next event
            self._queue.put_nowait((index, error))

    async def _next(self) -> tuple[int, list[TurnEvent]]:
        index, events = await self._queue.get()
        if isinstance(events, Exception):
            raise events
        return index, events

    @property
    def num_generated(self) -> int:
        """Tokens of all complete answers."""
        return sum(end.num_generated for end in self.ends.values())

    @property
    def num_reasoning(self) -> int:
        """Tokens of all complete answers that are reasoning; a part of `num_generated`."""
        return sum(end.num_reasoning for end in self.ends.values())

    @property
    def num_cached(self) -> int:
        """Tokens of the prompt, which is computed once, that the first answer found in the prefix cache."""
        return min((end.num_cached for end in self.ends.values()), default=0)

    async def aclose(self) -> None:
        """Cancel what is left of the answers, then release the resources. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._resources.aclose()
