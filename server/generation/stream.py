"""Answers in the making: events as they come, the citations in their text, and what they cost."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple, TypeGuard

import msgspec

from models.llm.chat.events import Content, ToolCallArguments, ToolCallStart, TurnEnd, TurnEvent
from models.llm.chat.logprobs import ScoredToken, TokenAlignment
from models.llm.chat.messages import ChatMessage, ToolCall
from server.rag.citations import Citation, MarkerFilter, citations_in_json
from server.rag.evidence import quoted
from server.rag.options import CitationStyle
from server.rag.prompts import Source
from server.rag.report import RagReport

Steps = AsyncGenerator[list[TurnEvent], None]

_FIRST_S = 1.0  # that a reply may wait for its first token before it begins


class Grounding(NamedTuple):
    """What answers are grounded on, and how they are to say so. An answer that is JSON is left as it is."""

    sources: Mapping[int, Source]  # in the prompt, by number
    report: RagReport
    style: CitationStyle = CitationStyle.ANNOTATIONS
    is_json: bool = False
    remember: Callable[[ChatMessage], None] = lambda _: None  # called with each reply that is complete


class Cited(msgspec.Struct, frozen=True):
    """The citations of an answer whose text is complete; comes before its end, if there are any.

    `is_listed`: a list of the sources is to follow the text; `is_annotated`: the citations are to be told beside it.
    """

    citations: list[Citation]
    is_listed: bool = False
    is_annotated: bool = True


AnswerEvent = TurnEvent | Cited


class CitedTurn:
    """One answer. Without grounding no marker is touched."""

    def __init__(self, grounding: Grounding | None) -> None:
        self._grounding = grounding
        self._markers: MarkerFilter | None = None
        if grounding is not None and not grounding.is_json:
            is_cited = grounding.style is not CitationStyle.NONE
            self._markers = MarkerFilter(frozenset(grounding.sources) if is_cited else frozenset())
        self._trail = TokenAlignment()
        self._text: list[str] = []
        self._calls: list[ToolCallStart | ToolCallArguments] = []
        self._is_scored = False

    def feed(self, event: TurnEvent) -> list[AnswerEvent]:
        if self._grounding is None:
            return [event]
        match event:
            case Content(text, tokens):
                return self._content(text, tokens)
            case ToolCallStart() | ToolCallArguments():
                self._calls.append(event)
                return [event]
            case TurnEnd():
                rest = self._content("", (), final=True)
                self._grounding.remember(self._message())
                return [*rest, *self._cited(self._grounding), event]
            case _:
                return [event]

    def _content(self, text: str, tokens: Sequence[ScoredToken], *, final: bool = False) -> list[AnswerEvent]:
        self._is_scored = self._is_scored or bool(tokens)
        self._trail.push(tokens)
        num_held = 0
        if self._markers is not None:
            text = self._markers.feed(text, final=final)
            num_held = self._markers.num_held
        self._text.append(text)
        scored = self._trail.take(text, num_held)
        return [Content(text, scored)] if text else []

    def _cited(self, grounding: Grounding) -> list[Cited]:
        text, style = "".join(self._text), grounding.style
        if style is CitationStyle.NONE:
            return []
        markers = self._markers
        found = markers.citations if markers else citations_in_json(text, frozenset(grounding.sources))
        if not found:
            return []
        passages = {number: source.text for number, source in grounding.sources.items()}
        # A list is for people: not among JSON or code, beside calls, or where each token is to be accounted for.
        is_prose = markers is not None and not (markers.is_in_code or self._calls or self._is_scored)
        return [
            Cited(
                quoted(found, text, passages),
                is_listed=is_prose and style in (CitationStyle.INLINE, CitationStyle.BOTH),
                is_annotated=style in (CitationStyle.ANNOTATIONS, CitationStyle.BOTH),
            )
        ]

    def _message(self) -> ChatMessage:
        """The reply as a client sends it back, but for the list of sources."""
        calls = [
            ToolCall(start.id, start.name, "".join(e.text for e in self._calls if _is_of(e, start)))
            for start in self._calls
            if isinstance(start, ToolCallStart)
        ]
        return ChatMessage.of_text("assistant", "".join(self._text), calls)


def _is_of(event: TurnEvent, start: ToolCallStart) -> TypeGuard[ToolCallArguments]:
    return isinstance(event, ToolCallArguments) and event.index == start.index


class GenerationStream:
    """Several answers to one prompt, made at the same time. `aclose` cancels what is left of them.

    `lease` is what they need until then; whoever starts them may hand it over.
    """

    def __init__(self, num_prompt: int, steps: Sequence[Steps], grounding: Grounding | None = None) -> None:
        self.num_prompt = num_prompt
        self.grounding = grounding
        self.ends: dict[int, TurnEnd] = {}  # by the answer's index, as far as they have come
        self._answers = [CitedTurn(grounding) for _ in steps]
        self._arrived: asyncio.Queue[tuple[int, list[TurnEvent] | Exception]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._steps = steps
        self.lease = contextlib.AsyncExitStack()
        self._first: tuple[int, list[TurnEvent]] | None = None

    def __len__(self) -> int:
        return len(self._answers)

    async def start(self) -> None:
        """Waits a second for the first token, so that what prevents an answer is raised before its first byte is sent.

        A long prompt takes longer: its reply begins meanwhile. Whatever this raises, the caller closes the answers.
        """
        self._tasks = [asyncio.create_task(self._collect(index, steps)) for index, steps in enumerate(self._steps)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                self._first = await self._next()

    async def events(self) -> AsyncIterator[tuple[int, AnswerEvent]]:
        """With the index of the answer each belongs to. Raises `ProcessFailed` when the engine dies meanwhile."""
        assert self._tasks, "start() comes first"
        index, events = self._first or await self._next()
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
