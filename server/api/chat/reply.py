"""POST /v1/chat/completions: answers in the shape of the wire, whole or in chunks."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence

from msgspec import UNSET, UnsetType

from models.llm.chat.logprobs import Candidate, ScoredToken
from models.llm.chat.parser import Content, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.chat.turn import EndReason, TurnEnd, TurnEvent
from server.api.chat.wire import (
    Annotation,
    AssistantMessage,
    CalledFunction,
    ChatCompletion,
    ChatCompletionChunk,
    ChatRequest,
    Choice,
    ChunkChoice,
    CompletionTokensDetails,
    Delta,
    Logprobs,
    MadeCall,
    PromptTokensDetails,
    TokenLogprob,
    TopLogprob,
    UrlCitation,
    Usage,
)
from server.api.shared.passage import wire_passage
from server.api.shared.rag import listed, reply_of
from server.api.shared.rag_wire import RagReply
from server.generation.stream import AnswerEvent, Cited, GenerationStream
from server.rag.citations import Citation
from server.rag.prompts import Source
from server.settings.settings import GROUNDED


class ChatReply:
    def __init__(self, data: ChatRequest, answers: GenerationStream, base_url: str) -> None:
        self._answers = answers
        self._base_url = base_url
        self._is_legacy = bool(data.functions)
        self._has_logprobs = bool(data.logprobs)
        self._has_usage = bool(data.stream_options and data.stream_options.include_usage)
        self._model = data.model or GROUNDED
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self) -> ChatCompletion:
        told: list[list[AnswerEvent]] = [[] for _ in range(len(self._answers))]
        async for index, event in self._answers.events():
            told[index].append(event)
        choices = [self._choice(index, events) for index, events in enumerate(told)]
        return ChatCompletion(self._id, self._created, self._model, choices, self._usage(), self._rag())

    async def events(self) -> AsyncIterator[ChatCompletionChunk]:
        for index in range(len(self._answers)):
            role = ChunkChoice(index, Delta(role="assistant", content=""))
            yield self._chunk(role, UNSET if index else self._rag())  # so that markers mean something when they come
        num_ended = 0
        async for index, event in self._answers.events():
            num_ended += isinstance(event, TurnEnd)
            is_last = isinstance(event, TurnEnd) and num_ended == len(self._answers)
            for choice in self._pieces(index, event):
                yield self._chunk(choice, self._rag() if is_last else UNSET)
        if self._has_usage:
            yield ChatCompletionChunk(self._id, self._created, self._model, [], self._usage())

    async def aclose(self) -> None:
        await self._answers.aclose()

    def _chunk(self, choice: ChunkChoice, rag: RagReply | UnsetType = UNSET) -> ChatCompletionChunk:
        usage = None if self._has_usage else UNSET
        return ChatCompletionChunk(self._id, self._created, self._model, [choice], usage, rag)

    def _pieces(self, index: int, event: AnswerEvent) -> Iterator[ChunkChoice]:
        if not isinstance(event, Cited):
            yield self._piece(index, event)
            return
        if event.is_listed:
            yield ChunkChoice(index, Delta(content=self._source_list(event.citations)))
        if event.is_annotated:
            yield ChunkChoice(index, Delta(annotations=self._annotations(event.citations)))

    def _piece(self, index: int, event: TurnEvent) -> ChunkChoice:
        match event:
            case Content(text, tokens):
                return ChunkChoice(index, Delta(content=text), logprobs=self._logprobs(tokens) if tokens else None)
            case Reasoning(text):
                return ChunkChoice(index, Delta(reasoning_content=text))
            case ToolCallStart(call, call_id, name):
                return ChunkChoice(
                    index, self._call_delta(MadeCall(CalledFunction("", name), call, call_id, "function"))
                )
            case ToolCallArguments(call, text):
                return ChunkChoice(index, self._call_delta(MadeCall(CalledFunction(text), call)))
            case TurnEnd():
                return ChunkChoice(index, Delta(), self._finish_reason(event))

    def _call_delta(self, call: MadeCall) -> Delta:
        return Delta(function_call=call.function) if self._is_legacy else Delta(tool_calls=[call])

    def _choice(self, index: int, events: Sequence[AnswerEvent]) -> Choice:
        content = [event for event in events if isinstance(event, Content)]
        text = "".join(event.text for event in content)
        reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
        calls = _calls(events)
        cited = next((event for event in events if isinstance(event, Cited)), Cited([]))
        text += self._source_list(cited.citations) if cited.is_listed else ""
        message = AssistantMessage(
            content=text or (None if calls else ""),
            reasoning_content=reasoning or UNSET,
            tool_calls=UNSET if self._is_legacy else calls or UNSET,
            function_call=calls[0].function if self._is_legacy and calls else UNSET,
            annotations=self._annotations(cited.citations) if cited.is_annotated and cited.citations else UNSET,
        )
        logprobs = self._logprobs([token for event in content for token in event.tokens])
        return Choice(index, message, self._finish_reason(self._answers.ends[index]), logprobs)

    def _finish_reason(self, end: TurnEnd) -> str:
        return "function_call" if self._is_legacy and end.reason is EndReason.TOOL_CALLS else end.reason

    def _logprobs(self, tokens: Sequence[ScoredToken]) -> Logprobs | None:
        return Logprobs([_logprob(token) for token in tokens]) if self._has_logprobs else None

    def _usage(self) -> Usage:
        answers = self._answers
        return Usage(
            answers.num_prompt,
            answers.num_generated,
            answers.num_prompt + answers.num_generated,
            PromptTokensDetails(answers.num_cached),
            CompletionTokensDetails(answers.num_reasoning),
        )

    def _rag(self) -> RagReply | UnsetType:
        grounding = self._answers.grounding
        return reply_of(grounding.report, self._base_url) if grounding else UNSET

    def _source(self, number: int) -> Source:
        assert self._answers.grounding, "only what is grounded is cited"
        return self._answers.grounding.sources[number]

    def _source_list(self, citations: Sequence[Citation]) -> str:
        assert self._answers.grounding, "only what is grounded is cited"
        return listed(self._answers.grounding, citations, self._base_url)

    def _annotations(self, citations: Sequence[Citation]) -> list[Annotation]:
        return [Annotation(index, self._url_citation(citation)) for index, citation in enumerate(citations)]

    def _url_citation(self, citation: Citation) -> UrlCitation:
        source = self._source(citation.number)
        return wire_passage(
            UrlCitation,
            source.passage,
            self._base_url,
            title=source.label,
            start_index=citation.start,
            end_index=citation.end,
            content=source.text,
            quote=citation.quote,
            number=citation.number,
        )


def _calls(events: Sequence[AnswerEvent]) -> list[MadeCall]:
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    pieces = [event for event in events if isinstance(event, ToolCallArguments)]
    arguments = {start.index: "".join(p.text for p in pieces if p.index == start.index) for start in starts}
    return [MadeCall(CalledFunction(arguments[s.index], s.name), id=s.id, type="function") for s in starts]


def _logprob(token: ScoredToken) -> TokenLogprob:
    top = [TopLogprob(*_told(candidate)) for candidate in token.top]
    return TokenLogprob(*_told(token.chosen), top)


def _told(candidate: Candidate) -> tuple[str, float, list[int]]:
    return candidate.text, candidate.logprob, list(candidate.piece)
