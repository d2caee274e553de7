"""One answer in the making: its events, the citations in its text, and the reply that the conversation remembers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

import msgspec

from models.llm.chat.events import Content, ToolCallArguments, ToolCallStart, TurnEnd, TurnEvent
from models.llm.chat.logprobs import ScoredToken, TokenAlignment
from models.llm.chat.messages import ChatMessage, ToolCall
from server.rag.citations import Citation, MarkerFilter, citations_in_json
from server.rag.history import TurnRecord
from server.rag.options import CitationStyle
from server.rag.prompts import Source
from server.rag.quotes import with_quotes
from server.rag.report import RagReport


class Grounding(NamedTuple):
    """The sources of a generation, and how its answers cite them. An answer that is JSON keeps its text as it is.

    `sources` are those in the prompt, by number. `record` is what the conversation remembers with each complete reply.
    """

    sources: Mapping[int, Source]
    report: RagReport
    style: CitationStyle = CitationStyle.ANNOTATIONS
    is_json: bool = False
    record: TurnRecord | None = None


class AnswerCitations(msgspec.Struct, frozen=True):
    """The citations of an answer whose text is complete. Comes before its `TurnEnd`, if there are any.

    `is_listed`: a list of the sources follows the text; `is_annotated`: the citations stand beside the text.
    """

    citations: list[Citation]
    is_listed: bool = False
    is_annotated: bool = True


AnswerEvent = TurnEvent | AnswerCitations


class Answer:
    """Passes on the events of one turn of the model. With grounding, it removes markers that name no source, adds the
    citations, and collects the reply; without, every event passes as it is."""

    def __init__(self, grounding: Grounding | None) -> None:
        self._grounding = grounding
        self._markers: MarkerFilter | None = None
        if grounding is not None and not grounding.is_json:
            is_cited = grounding.style is not CitationStyle.NONE
            self._markers = MarkerFilter(frozenset(grounding.sources) if is_cited else frozenset())
        self._alignment = TokenAlignment()
        self._text: list[str] = []
        self._calls: list[ToolCallStart | ToolCallArguments] = []
        self._has_logprobs = False

    def feed(self, event: TurnEvent) -> list[AnswerEvent]:
        """Return the events that are certain now."""
        if self._grounding is None:
            return [event]
        match event:
            case Content(text, tokens):
                return self._content(text, tokens)
            case ToolCallStart() | ToolCallArguments():
                self._calls.append(event)
                return [event]
            case TurnEnd():
                return [*self._content("", (), final=True), *self._citations(self._grounding), event]
            case _:
                return [event]

    def reply(self) -> ChatMessage:
        """Return the complete reply as a client will send it back, without a list of sources."""
        calls = [
            ToolCall(start.id, start.name, "".join(e.text for e in self._calls if _belongs_to(e, start)))
            for start in self._calls
            if isinstance(start, ToolCallStart)
        ]
        return ChatMessage.of_text("assistant", "".join(self._text), tuple(calls))

    def _content(self, text: str, tokens: Sequence[ScoredToken], *, final: bool = False) -> list[AnswerEvent]:
        self._has_logprobs = self._has_logprobs or bool(tokens)
        self._alignment.push(tokens)
        num_held = 0
        if self._markers is not None:
            text = self._markers.feed(text, final=final)
            num_held = self._markers.num_held
        self._text.append(text)
        scored = self._alignment.take(text, num_held)
        return [Content(text, scored)] if text else []

    def _citations(self, grounding: Grounding) -> list[AnswerCitations]:
        text, style, markers = "".join(self._text), grounding.style, self._markers
        if style is CitationStyle.NONE:
            return []
        citations = markers.citations if markers else citations_in_json(text, frozenset(grounding.sources))
        if not citations:
            return []
        source_texts = {number: source.text for number, source in grounding.sources.items()}
        # A list is for people: not for JSON or code, beside tool calls, or where every token has its log probability.
        is_prose = markers is not None and not (markers.is_in_code or self._calls or self._has_logprobs)
        return [
            AnswerCitations(
                with_quotes(citations, text, source_texts),
                is_listed=is_prose and style in (CitationStyle.INLINE, CitationStyle.BOTH),
                is_annotated=style in (CitationStyle.ANNOTATIONS, CitationStyle.BOTH),
            )
        ]


def _belongs_to(event: TurnEvent, start: ToolCallStart) -> TypeGuard[ToolCallArguments]:
    return isinstance(event, ToolCallArguments) and event.index == start.index
