"""Answers as Ollama tells them: in frames, or all of them in one."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import UNSET, UnsetType

from models.llm.chat.events import Content, EndReason, Reasoning, ToolCallArguments, ToolCallStart, TurnEnd
from models.llm.chat.logprobs import ScoredToken
from server.api.ollama.wire import (
    OllamaChatFrame,
    OllamaFrame,
    OllamaFunctionCall,
    OllamaGenerateFrame,
    OllamaReplyMessage,
    OllamaToolCall,
)
from server.api.shared.logprobs import token_logprob
from server.api.shared.rag import format_source_list, rag_reply
from server.api.shared.rag_wire import RagReply
from server.generation.answer import AnswerCitations
from server.generation.stream import GenerationStream

_Frame = TypeVar("_Frame", bound=OllamaFrame)
MakeFrame = Callable[["OllamaPiece", Mapping[str, Any]], _Frame]


class OllamaPiece(NamedTuple):
    """Of an answer; with the last piece, how it ended."""

    text: str = ""
    thinking: str = ""
    calls: tuple[OllamaToolCall, ...] = ()
    tokens: tuple[ScoredToken, ...] = ()
    end: TurnEnd | None = None


class OllamaTimer:
    """When what happened, in nanoseconds."""

    def __init__(self) -> None:
        self._started = time.perf_counter_ns()
        self._loaded = self._first = self._started

    def loaded(self) -> None:
        self._loaded = self._first = time.perf_counter_ns()

    def began(self) -> None:
        """The answer; before that, the prompt was read."""
        self._first = time.perf_counter_ns()

    @property
    def durations(self) -> dict[str, int]:
        now = time.perf_counter_ns()
        return {
            "total_duration": now - self._started,
            "load_duration": self._loaded - self._started,
            "prompt_eval_duration": self._first - self._loaded,
            "eval_duration": now - self._first,
        }


class OllamaReply(Generic[_Frame]):
    """`frame` makes a frame of a piece and the fields that all frames have; `model` is what the client calls it."""

    def __init__(
        self, frame: MakeFrame[_Frame], model: str, answers: GenerationStream, clock: OllamaTimer, base_url: str
    ) -> None:
        self._make = frame
        self._model = model
        self._answers = answers
        self._clock = clock
        self._base_url = base_url

    async def events(self) -> AsyncIterator[_Frame]:
        async for piece in self._pieces():
            yield self._frame(piece)

    async def whole(self) -> _Frame:
        pieces = [piece async for piece in self._pieces()]
        joined = OllamaPiece(
            "".join(piece.text for piece in pieces),
            "".join(piece.thinking for piece in pieces),
            tuple(call for piece in pieces for call in piece.calls),
            tuple(token for piece in pieces for token in piece.tokens),
            pieces[-1].end,
        )
        return self._frame(joined)

    async def aclose(self) -> None:
        await self._answers.aclose()

    @property
    def silent(self) -> _Frame:
        """A frame that says nothing."""
        return self._frame(OllamaPiece())

    def _frame(self, piece: OllamaPiece) -> _Frame:
        return self._make(piece, self._told(piece))

    async def _pieces(self) -> AsyncIterator[OllamaPiece]:
        """A call in one piece. The citations of an answer are a list at its end, for there is nothing but the text."""
        calls = _Calls()
        is_first = True
        async for _, event in self._answers.events():
            if is_first:
                self._clock.began()
                is_first = False
            if not isinstance(event, ToolCallArguments) and (done := calls.take()):
                yield OllamaPiece(calls=done)
            match event:
                case Content(text, tokens):
                    yield OllamaPiece(text, tokens=tokens)
                case Reasoning(text):
                    yield OllamaPiece(thinking=text)
                case ToolCallStart() | ToolCallArguments():
                    calls.feed(event)
                case AnswerCitations() if event.is_listed and self._answers.grounding:
                    yield OllamaPiece(format_source_list(self._answers.grounding, event.citations, self._base_url))
                case TurnEnd():
                    yield OllamaPiece(end=event)

    def _told(self, piece: OllamaPiece) -> dict[str, Any]:
        """The fields that frames have in common."""
        told: dict[str, Any] = {"model": self._model, "created_at": timestamp()}
        if piece.tokens:
            told["logprobs"] = [token_logprob(token) for token in piece.tokens]
        if piece.end is None:
            return told
        return {
            **told,
            **self._clock.durations,
            "done": True,
            "done_reason": "length" if piece.end.reason is EndReason.LENGTH else "stop",
            "prompt_eval_count": self._answers.num_prompt,
            "eval_count": piece.end.num_generated,
            "rag": self._rag(),
        }

    def _rag(self) -> RagReply | UnsetType:
        grounding = self._answers.grounding
        return rag_reply(grounding.report, self._base_url) if grounding else UNSET


class _Calls:
    """Collects a call until it is whole."""

    def __init__(self) -> None:
        self._start: ToolCallStart | None = None
        self._arguments = ""

    def feed(self, event: ToolCallStart | ToolCallArguments) -> None:
        if isinstance(event, ToolCallStart):
            self._start, self._arguments = event, ""
        else:
            self._arguments += event.text

    def take(self) -> tuple[OllamaToolCall, ...]:
        """The call that was collected, if there is one."""
        start, self._start = self._start, None
        if start is None:
            return ()
        function = OllamaFunctionCall(start.name, json.loads(self._arguments or "{}"), start.index)
        return (OllamaToolCall(function, start.id),)


def chat_frame(piece: OllamaPiece, told: Mapping[str, Any]) -> OllamaChatFrame:
    calls = list(piece.calls)
    return OllamaChatFrame(
        message=OllamaReplyMessage(content=piece.text, thinking=piece.thinking or UNSET, tool_calls=calls or UNSET),
        **told,
    )


def generate_frame(piece: OllamaPiece, told: Mapping[str, Any]) -> OllamaGenerateFrame:
    return OllamaGenerateFrame(response=piece.text, thinking=piece.thinking or UNSET, **told)


def loaded_frame(kind: type[_Frame], model: str, reason: str) -> _Frame:
    """The whole reply to who asks for nothing: the model was loaded, or will leave."""
    return kind(model=model, created_at=timestamp(), done=True, done_reason=reason)


def timestamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
