"""The reply of POST /api/chat and /api/generate, in frames or in one."""

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
    """A part of an answer. The last part has the answer's end."""

    text: str = ""
    thinking: str = ""
    calls: tuple[OllamaToolCall, ...] = ()
    tokens: tuple[ScoredToken, ...] = ()
    end: TurnEnd | None = None


class OllamaTimer:
    """Measures a request's phases, in nanoseconds: loading the model, reading the prompt, generating."""

    def __init__(self) -> None:
        self._started = time.perf_counter_ns()
        self._loaded = self._first = self._started

    def mark_loaded(self) -> None:
        self._loaded = self._first = time.perf_counter_ns()

    def mark_first_token(self) -> None:
        """End the phase in which the prompt is read."""
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
    """A generation in the shape of Ollama's API.

    `frame` makes a frame from a piece and the fields that all frames have; `model` is the name that the client used.
    """

    def __init__(
        self, frame: MakeFrame[_Frame], model: str, generation: GenerationStream, timer: OllamaTimer, base_url: str
    ) -> None:
        self._make = frame
        self._model = model
        self._generation = generation
        self._timer = timer
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
        await self._generation.aclose()

    @property
    def keep_alive(self) -> _Frame:
        """An empty frame, which keeps the connection alive."""
        return self._frame(OllamaPiece())

    def _frame(self, piece: OllamaPiece) -> _Frame:
        return self._make(piece, self._shared_fields(piece))

    async def _pieces(self) -> AsyncIterator[OllamaPiece]:
        """Yield the parts of the answer: each call whole, and the cited sources as a list at the end of the text."""
        calls = _CallCollector()
        is_first = True
        async for _, event in self._generation.events():
            if is_first:
                self._timer.mark_first_token()
                is_first = False
            if not isinstance(event, ToolCallArguments) and (call := calls.take()):
                yield OllamaPiece(calls=call)
            match event:
                case Content(text, tokens):
                    yield OllamaPiece(text, tokens=tokens)
                case Reasoning(text):
                    yield OllamaPiece(thinking=text)
                case ToolCallStart() | ToolCallArguments():
                    calls.feed(event)
                case AnswerCitations() if event.is_listed and self._generation.grounding:
                    yield OllamaPiece(format_source_list(self._generation.grounding, event.citations, self._base_url))
                case TurnEnd():
                    yield OllamaPiece(end=event)

    def _shared_fields(self, piece: OllamaPiece) -> dict[str, Any]:
        """Return the fields that frames of all kinds have."""
        fields: dict[str, Any] = {"model": self._model, "created_at": timestamp()}
        if piece.tokens:
            fields["logprobs"] = [token_logprob(token) for token in piece.tokens]
        if piece.end is None:
            return fields
        return {
            **fields,
            **self._timer.durations,
            "done": True,
            "done_reason": "length" if piece.end.reason is EndReason.LENGTH else "stop",
            "prompt_eval_count": self._generation.num_prompt,
            "eval_count": piece.end.num_generated,
            "rag": self._rag(),
        }

    def _rag(self) -> RagReply | UnsetType:
        grounding = self._generation.grounding
        return rag_reply(grounding.report, self._base_url) if grounding else UNSET


class _CallCollector:
    """Collects the pieces of one call."""

    def __init__(self) -> None:
        self._start: ToolCallStart | None = None
        self._arguments = ""

    def feed(self, event: ToolCallStart | ToolCallArguments) -> None:
        if isinstance(event, ToolCallStart):
            self._start, self._arguments = event, ""
        else:
            self._arguments += event.text

    def take(self) -> tuple[OllamaToolCall, ...]:
        """Return the call that was collected, if there is one, and forget it."""
        start, self._start = self._start, None
        if start is None:
            return ()
        function = OllamaFunctionCall(start.name, json.loads(self._arguments or "{}"), start.index)
        return (OllamaToolCall(function, start.id),)


def chat_frame(piece: OllamaPiece, fields: Mapping[str, Any]) -> OllamaChatFrame:
    calls = list(piece.calls)
    return OllamaChatFrame(
        message=OllamaReplyMessage(content=piece.text, thinking=piece.thinking or UNSET, tool_calls=calls or UNSET),
        **fields,
    )


def generate_frame(piece: OllamaPiece, fields: Mapping[str, Any]) -> OllamaGenerateFrame:
    return OllamaGenerateFrame(response=piece.text, thinking=piece.thinking or UNSET, **fields)


def loaded_frame(kind: type[_Frame], model: str, reason: str) -> _Frame:
    """Return the reply to a request without prompt: the model was loaded, or will be unloaded."""
    return kind(model=model, created_at=timestamp(), done=True, done_reason=reason)


def timestamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
