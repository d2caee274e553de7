"""POST /v1/messages: answers in blocks, whole or as events."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from models.llm.chat.events import Content, EndReason, Reasoning, ToolCallArguments, ToolCallStart, TurnEnd
from server.api.anthropic.wire import (
    AnthropicCitation,
    AnthropicCitationDelta,
    AnthropicDelta,
    AnthropicError,
    AnthropicErrorDetail,
    AnthropicEvent,
    AnthropicInputDelta,
    AnthropicMessageReply,
    AnthropicTextDelta,
    AnthropicThinkingDelta,
    AnthropicUsage,
    BlockDelta,
    BlockStart,
    BlockStop,
    MessageDelta,
    MessageEnd,
    MessageStart,
    MessageStop,
    ReplyBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
)
from server.api.shared.rag import format_source_list, rag_reply
from server.api.shared.rag_wire import RagReply
from server.generation.answer import AnswerCitations, AnswerEvent
from server.generation.stream import GenerationStream
from server.http.links import passage_url
from server.http.problems import problem_of
from server.rag import citations

_ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AnthropicReply:
    """The answer to one request. `model` is what the client calls it."""

    def __init__(self, model: str, answers: GenerationStream, base_url: str) -> None:
        self._model = model
        self._answers = answers
        self._base_url = base_url
        self._id = f"msg_{secrets.token_hex(12)}"
        self._num_blocks = 0
        self._open: type[ReplyBlock] | None = None  # the kind of the block that is being told

    async def events(self) -> AsyncIterator[AnthropicEvent]:
        usage = AnthropicUsage(self._answers.num_prompt, 0)
        yield MessageStart(AnthropicMessageReply(id=self._id, model=self._model, usage=usage))
        async for _, event in self._answers.events():
            for told in self._told(event):
                yield told

    async def whole(self) -> AnthropicMessageReply:
        blocks: list[ReplyBlock] = []
        inputs: dict[int, str] = {}
        end: MessageDelta | None = None
        async for event in self.events():
            match event:
                case BlockStart(content_block=block):
                    blocks.append(block)
                case BlockDelta(index, AnthropicInputDelta(text)):
                    inputs[index] = inputs.get(index, "") + text
                case BlockDelta(index, delta):
                    blocks[index] = _longer(blocks[index], delta)
                case MessageDelta():
                    end = event
        assert end, "every answer ends"
        for index, text in inputs.items():
            block = blocks[index]
            assert isinstance(block, ToolUseBlock)
            blocks[index] = replace(block, input=json.loads(text))
        return AnthropicMessageReply(
            id=self._id,
            model=self._model,
            content=blocks,
            stop_reason=end.delta.stop_reason,
            stop_sequence=end.delta.stop_sequence,
            usage=end.usage,
            rag=end.rag,
        )

    async def aclose(self) -> None:
        await self._answers.aclose()

    def _told(self, event: AnswerEvent) -> Iterator[AnthropicEvent]:
        match event:
            case Content(text):
                yield from self._in(TextBlock(""))
                yield self._delta(AnthropicTextDelta(text))
            case Reasoning(text):
                yield from self._in(ThinkingBlock(""))
                yield self._delta(AnthropicThinkingDelta(text))
            case ToolCallStart(_, call_id, name):
                yield from self._stop()
                yield from self._in(ToolUseBlock(call_id, name))
            case ToolCallArguments(_, text):
                yield self._delta(AnthropicInputDelta(text))
            case AnswerCitations():
                yield from self._cited(event)
            case TurnEnd():
                yield from self._stop()
                yield self._end(event)
                yield MessageStop()

    def _in(self, block: ReplyBlock) -> Iterator[AnthropicEvent]:
        """A block of this kind is open afterwards."""
        if self._open is type(block):
            return
        yield from self._stop()
        self._open = type(block)
        self._num_blocks += 1
        yield BlockStart(self._num_blocks - 1, block)

    def _stop(self) -> Iterator[AnthropicEvent]:
        if self._open is not None:
            self._open = None
            yield BlockStop(self._num_blocks - 1)

    def _delta(self, delta: AnthropicDelta) -> BlockDelta:
        return BlockDelta(self._num_blocks - 1, delta)

    def _cited(self, event: AnswerCitations) -> Iterator[AnthropicEvent]:
        grounding = self._answers.grounding
        assert grounding, "only what is grounded is cited"
        yield from self._in(TextBlock(""))
        if event.is_listed:
            yield self._delta(AnthropicTextDelta(format_source_list(grounding, event.citations, self._base_url)))
        if event.is_annotated:
            for citation in event.citations:
                yield self._delta(AnthropicCitationDelta(self._citation(citation)))

    def _citation(self, citation: citations.Citation) -> AnthropicCitation:
        assert self._answers.grounding
        source = self._answers.grounding.sources[citation.number]
        return AnthropicCitation(
            cited_text=citation.quote or source.text,
            source=passage_url(self._base_url, source.passage),
            title=source.label,
            search_result_index=citation.number - 1,
        )

    def _end(self, end: TurnEnd) -> MessageDelta:
        usage = AnthropicUsage(self._answers.num_prompt - end.num_cached, end.num_generated, end.num_cached)
        return MessageDelta(MessageEnd(_stop_reason(end), end.stopped_by), usage, self._rag())

    def _rag(self) -> RagReply | UnsetType:
        grounding = self._answers.grounding
        return rag_reply(grounding.report, self._base_url) if grounding else UNSET


def _stop_reason(end: TurnEnd) -> str:
    match end.reason:
        case EndReason.TOOL_CALLS:
            return "tool_use"
        case EndReason.LENGTH:
            return "max_tokens"
        case EndReason.STOP:
            return "stop_sequence" if end.stopped_by else "end_turn"


def _longer(block: ReplyBlock, delta: AnthropicDelta) -> ReplyBlock:
    match block, delta:
        case TextBlock(), AnthropicTextDelta():
            return replace(block, text=block.text + delta.text)
        case TextBlock(), AnthropicCitationDelta():
            return replace(block, citations=[*(block.citations or ()), delta.citation])
        case ThinkingBlock(), AnthropicThinkingDelta():
            return replace(block, thinking=block.thinking + delta.thinking)
    raise AssertionError("a delta is of its block's kind")


def error_body(error: BaseException) -> AnthropicError:
    problem = problem_of(error)
    detail = problem.detail
    message = f"{detail.param}: {detail.message}" if detail.param else detail.message
    return AnthropicError(AnthropicErrorDetail(_ERRORS.get(problem.status, _by_class(problem.status)), message))


def _by_class(status: int) -> str:
    return "invalid_request_error" if status < 500 else "api_error"
