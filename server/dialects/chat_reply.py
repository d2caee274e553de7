"""POST /v1/chat/completions: answers in the shape of the wire, whole or in chunks."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence

from msgspec import UNSET

from models.llm.scored import Candidate, ScoredToken
from models.llm.tool_calls import Content, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.turn import EndReason, TurnEnd
from server.answer import AnswerEvent, Answers, Cited
from server.controllers.documents import passage_url
from server.protocol.chat import (
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
from server.rag.citations import Citation
from server.settings import GROUNDED


class ChatReply:
    def __init__(self, data: ChatRequest, answers: Answers, base_url: str) -> None:
        self._answers = answers
        self._base_url = base_url
        self._is_legacy = bool(data.functions)
        self._has_logprobs = bool(data.logprobs)
        self._has_usage = bool(data.stream_options and data.stream_options.include_usage)
        self._model = data.model or GROUNDED
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def completion(self) -> ChatCompletion:
        told: list[list[AnswerEvent]] = [[] for _ in range(len(self._answers))]
        async for index, event in self._answers.events():
            told[index].append(event)
        choices = [self._choice(index, events) for index, events in enumerate(told)]
        return ChatCompletion(self._id, self._created, self._model, choices, self._usage())

    async def chunks(self) -> AsyncIterator[ChatCompletionChunk]:
        for index in range(len(self._answers)):
            yield self._chunk(ChunkChoice(index, Delta(role="assistant", content="")))
        async for index, event in self._answers.events():
            yield self._chunk(self._piece(index, event))
        if self._has_usage:
            yield ChatCompletionChunk(self._id, self._created, self._model, [], self._usage())

    def _chunk(self, choice: ChunkChoice) -> ChatCompletionChunk:
        usage = None if self._has_usage else UNSET
        return ChatCompletionChunk(self._id, self._created, self._model, [choice], usage)

    def _piece(self, index: int, event: AnswerEvent) -> ChunkChoice:
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
            case Cited(citations):
                return ChunkChoice(index, Delta(annotations=self._annotations(citations)))
            case TurnEnd():
                return ChunkChoice(index, Delta(), self._finish_reason(event))

    def _call_delta(self, call: MadeCall) -> Delta:
        return Delta(function_call=call.function) if self._is_legacy else Delta(tool_calls=[call])

    def _choice(self, index: int, events: Sequence[AnswerEvent]) -> Choice:
        content = [event for event in events if isinstance(event, Content)]
        text = "".join(event.text for event in content)
        reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
        calls = _calls(events)
        citations = [citation for event in events if isinstance(event, Cited) for citation in event.citations]
        message = AssistantMessage(
            content=text or (None if calls else ""),
            reasoning_content=reasoning or UNSET,
            tool_calls=UNSET if self._is_legacy else calls or UNSET,
            function_call=calls[0].function if self._is_legacy and calls else UNSET,
            annotations=self._annotations(citations) or UNSET,
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

    def _annotations(self, citations: Sequence[Citation]) -> list[Annotation]:
        return [Annotation(index, self._url_citation(citation)) for index, citation in enumerate(citations)]

    def _url_citation(self, citation: Citation) -> UrlCitation:
        source = self._answers.sources[citation.number]
        passage = source.passage
        return UrlCitation(
            url=passage_url(self._base_url, passage),
            title=source.label,
            start_index=citation.start,
            end_index=citation.end,
            content=source.text,
            path=passage.path,
            collection=passage.collection,
            lines=(passage.line_from, passage.line_to),
            place=passage.place.label if passage.place else None,
            score=round(passage.score, 4),
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
