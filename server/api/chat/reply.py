"""The reply of POST /v1/chat/completions, whole or as chunks."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence

from msgspec import UNSET, UnsetType

from models.llm.chat.events import Content, EndReason, Reasoning, ToolCallArguments, ToolCallStart, TurnEnd, TurnEvent
from models.llm.chat.logprobs import ScoredToken
from server.api.chat.wire import (
    AssistantMessage,
    ChatAnnotation,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprobs,
    ChatReplyFunction,
    ChatReplyToolCall,
    ChatRequest,
    ChatUrlCitation,
    CompletionTokensDetails,
    CompletionUsage,
    PromptTokensDetails,
)
from server.api.shared.logprobs import token_logprob
from server.api.shared.passage import PassageFields
from server.api.shared.rag import format_source_list, rag_reply
from server.api.shared.rag_wire import RagReply
from server.generation.answer import AnswerCitations, AnswerEvent
from server.generation.stream import GenerationStream
from server.rag.citations import Citation
from server.rag.prompts import Source
from server.settings.settings import GROUNDED


class ChatReply:
    """A generation in the shape of OpenAI's chat API."""

    def __init__(self, data: ChatRequest, generation: GenerationStream, base_url: str) -> None:
        self._generation = generation
        self._base_url = base_url
        self._has_functions = bool(data.functions)
        self._has_logprobs = bool(data.logprobs)
        self._has_usage = bool(data.stream_options and data.stream_options.include_usage)
        self._model = data.model or GROUNDED
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self) -> ChatCompletion:
        events_by_answer: list[list[AnswerEvent]] = [[] for _ in range(len(self._generation))]
        async for index, event in self._generation.events():
            events_by_answer[index].append(event)
        choices = [self._choice(index, events) for index, events in enumerate(events_by_answer)]
        return ChatCompletion(self._id, self._created, self._model, choices, self._usage(), self._rag())

    async def events(self) -> AsyncIterator[ChatCompletionChunk]:
        for index in range(len(self._generation)):
            role = ChatChunkChoice(index, ChatDelta(role="assistant", content=""))
            # The sources come before the text, so that clients can resolve its citation markers.
            yield self._chunk(role, UNSET if index else self._rag())
        num_ended = 0
        async for index, event in self._generation.events():
            num_ended += isinstance(event, TurnEnd)
            is_last = isinstance(event, TurnEnd) and num_ended == len(self._generation)
            for choice in self._chunk_choices(index, event):
                yield self._chunk(choice, self._rag() if is_last else UNSET)
        if self._has_usage:
            yield ChatCompletionChunk(self._id, self._created, self._model, [], self._usage())

    async def aclose(self) -> None:
        await self._generation.aclose()

    def _chunk(self, choice: ChatChunkChoice, rag: RagReply | UnsetType = UNSET) -> ChatCompletionChunk:
        usage = None if self._has_usage else UNSET
        return ChatCompletionChunk(self._id, self._created, self._model, [choice], usage, rag)

    def _chunk_choices(self, index: int, event: AnswerEvent) -> Iterator[ChatChunkChoice]:
        if not isinstance(event, AnswerCitations):
            yield self._chunk_choice(index, event)
            return
        if event.is_listed:
            yield ChatChunkChoice(index, ChatDelta(content=self._source_list(event.citations)))
        if event.is_annotated:
            yield ChatChunkChoice(index, ChatDelta(annotations=self._annotations(event.citations)))

    def _chunk_choice(self, index: int, event: TurnEvent) -> ChatChunkChoice:
        match event:
            case Content(text, tokens):
                return ChatChunkChoice(
                    index, ChatDelta(content=text), logprobs=self._logprobs(tokens) if tokens else None
                )
            case Reasoning(text):
                return ChatChunkChoice(index, ChatDelta(reasoning_content=text))
            case ToolCallStart(call, call_id, name):
                return ChatChunkChoice(
                    index, self._call_delta(ChatReplyToolCall(ChatReplyFunction("", name), call, call_id, "function"))
                )
            case ToolCallArguments(call, text):
                return ChatChunkChoice(index, self._call_delta(ChatReplyToolCall(ChatReplyFunction(text), call)))
            case TurnEnd():
                return ChatChunkChoice(index, ChatDelta(), self._finish_reason(event))

    def _call_delta(self, call: ChatReplyToolCall) -> ChatDelta:
        return ChatDelta(function_call=call.function) if self._has_functions else ChatDelta(tool_calls=[call])

    def _choice(self, index: int, events: Sequence[AnswerEvent]) -> ChatChoice:
        content = [event for event in events if isinstance(event, Content)]
        text = "".join(event.text for event in content)
        reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
        calls = _calls(events)
        citations = next((event for event in events if isinstance(event, AnswerCitations)), AnswerCitations([]))
        text += self._source_list(citations.citations) if citations.is_listed else ""
        message = AssistantMessage(
            content=text or (None if calls else ""),
            reasoning_content=reasoning or UNSET,
            tool_calls=UNSET if self._has_functions else calls or UNSET,
            function_call=calls[0].function if self._has_functions and calls else UNSET,
            annotations=self._annotations(citations.citations)
            if citations.is_annotated and citations.citations
            else UNSET,
        )
        logprobs = self._logprobs([token for event in content for token in event.tokens])
        return ChatChoice(index, message, self._finish_reason(self._generation.ends[index]), logprobs)

    def _finish_reason(self, end: TurnEnd) -> str:
        return "function_call" if self._has_functions and end.reason is EndReason.TOOL_CALLS else end.reason

    def _logprobs(self, tokens: Sequence[ScoredToken]) -> ChatLogprobs | None:
        return ChatLogprobs([token_logprob(token) for token in tokens]) if self._has_logprobs else None

    def _usage(self) -> CompletionUsage:
        generation = self._generation
        return CompletionUsage(
            prompt_tokens=generation.num_prompt,
            completion_tokens=generation.num_generated,
            total_tokens=generation.num_prompt + generation.num_generated,
            prompt_tokens_details=PromptTokensDetails(generation.num_cached),
            completion_tokens_details=CompletionTokensDetails(generation.num_reasoning),
        )

    def _rag(self) -> RagReply | UnsetType:
        grounding = self._generation.grounding
        return rag_reply(grounding.report, self._base_url) if grounding else UNSET

    def _source(self, number: int) -> Source:
        assert self._generation.grounding, "only a grounded reply has citations"
        return self._generation.grounding.sources[number]

    def _source_list(self, citations: Sequence[Citation]) -> str:
        assert self._generation.grounding, "only a grounded reply has citations"
        return format_source_list(self._generation.grounding, citations, self._base_url)

    def _annotations(self, citations: Sequence[Citation]) -> list[ChatAnnotation]:
        return [ChatAnnotation(index, self._url_citation(citation)) for index, citation in enumerate(citations)]

    def _url_citation(self, citation: Citation) -> ChatUrlCitation:
        source = self._source(citation.number)
        passage = PassageFields.of(source.passage, self._base_url)
        return ChatUrlCitation(
            url=passage.url,
            title=source.label,
            start_index=citation.start,
            end_index=citation.end,
            content=source.text,
            quote=citation.quote,
            number=citation.number,
            document_id=passage.document_id,
            chunk_id=passage.chunk_id,
            collection=passage.collection,
            path=passage.path,
            filename=passage.filename,
            heading=passage.heading,
            lines=passage.lines,
            place=passage.place,
            page=passage.page,
            score=passage.score,
        )


def _calls(events: Sequence[AnswerEvent]) -> list[ChatReplyToolCall]:
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    pieces = [event for event in events if isinstance(event, ToolCallArguments)]
    arguments = {start.index: "".join(p.text for p in pieces if p.index == start.index) for start in starts}
    return [ChatReplyToolCall(ChatReplyFunction(arguments[s.index], s.name), id=s.id, type="function") for s in starts]
