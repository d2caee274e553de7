"""The reply of POST /v1/messages in content blocks, whole or as events."""

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

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AnthropicReply:
    """A generation in the shape of Anthropic's API. `model` is the name that the client used."""

    def __init__(self, model: str, generation: GenerationStream, base_url: str) -> None:
        self._model = model
        self._generation = generation
        self._base_url = base_url
        self._id = f"msg_{secrets.token_hex(12)}"
        self._num_blocks = 0
        self._open: type[ReplyBlock] | None = None  # the type of the open block

    async def events(self) -> AsyncIterator[AnthropicEvent]:
        usage = AnthropicUsage(self._generation.num_prompt, 0)
        yield MessageStart(AnthropicMessageReply(id=self._id, model=self._model, usage=usage))
        async for _, event in self._generation.events():
            for message_event in self._message_events(event):
                yield message_event

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
                    blocks[index] = _extend(blocks[index], delta)
                case MessageDelta():
                    end = event
        assert end, "every generation ends"
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
        await self._generation.aclose()

    def _message_events(self, event: AnswerEvent) -> Iterator[AnthropicEvent]:
        match event:
            case Content(text):
                yield from self._open_block(TextBlock(""))
                yield self._delta(AnthropicTextDelta(text))
            case Reasoning(text):
                yield from self._open_block(ThinkingBlock(""))
                yield self._delta(AnthropicThinkingDelta(text))
            case ToolCallStart(_, call_id, name):
                yield from self._close_block()
                yield from self._open_block(ToolUseBlock(call_id, name))
            case ToolCallArguments(_, text):
                yield self._delta(AnthropicInputDelta(text))
            case AnswerCitations():
                yield from self._cite(event)
            case TurnEnd():
                yield from self._close_block()
                yield self._end(event)
                yield MessageStop()

    def _open_block(self, block: ReplyBlock) -> Iterator[AnthropicEvent]:
        """Open a block of this type, unless one is open already."""
        if self._open is type(block):
            return
        yield from self._close_block()
        self._open = type(block)
        self._num_blocks += 1
        yield BlockStart(self._num_blocks - 1, block)

    def _close_block(self) -> Iterator[AnthropicEvent]:
        if self._open is not None:
            self._open = None
            yield BlockStop(self._num_blocks - 1)

    def _delta(self, delta: AnthropicDelta) -> BlockDelta:
        return BlockDelta(self._num_blocks - 1, delta)

    def _cite(self, event: AnswerCitations) -> Iterator[AnthropicEvent]:
        grounding = self._generation.grounding
        assert grounding, "only a grounded reply has citations"
        yield from self._open_block(TextBlock(""))
        if event.is_listed:
            yield self._delta(AnthropicTextDelta(format_source_list(grounding, event.citations, self._base_url)))
        if event.is_annotated:
            for citation in event.citations:
                yield self._delta(AnthropicCitationDelta(self._citation(citation)))

    def _citation(self, citation: citations.Citation) -> AnthropicCitation:
        assert self._generation.grounding
        source = self._generation.grounding.sources[citation.number]
        return AnthropicCitation(
            cited_text=citation.quote or source.text,
            source=passage_url(self._base_url, source.passage),
            title=source.label,
            search_result_index=citation.number - 1,
        )

    def _end(self, end: TurnEnd) -> MessageDelta:
        usage = AnthropicUsage(self._generation.num_prompt - end.num_cached, end.num_generated, end.num_cached)
        return MessageDelta(MessageEnd(_stop_reason(end), end.stopped_by), usage, self._rag())

    def _rag(self) -> RagReply | UnsetType:
        grounding = self._generation.grounding
        return rag_reply(grounding.report, self._base_url) if grounding else UNSET


def _stop_reason(end: TurnEnd) -> str:
    match end.reason:
        case EndReason.TOOL_CALLS:
            return "tool_use"
        case EndReason.LENGTH:
            return "max_tokens"
        case EndReason.STOP:
            return "stop_sequence" if end.stopped_by else "end_turn"


def _extend(block: ReplyBlock, delta: AnthropicDelta) -> ReplyBlock:
    match block, delta:
        case TextBlock(), AnthropicTextDelta():
            return replace(block, text=block.text + delta.text)
        case TextBlock(), AnthropicCitationDelta():
            return replace(block, citations=[*(block.citations or ()), delta.citation])
        case ThinkingBlock(), AnthropicThinkingDelta():
            return replace(block, thinking=block.thinking + delta.thinking)
    raise AssertionError("a delta has the type of its block")


def error_body(error: BaseException) -> AnthropicError:
    """Return the error as Anthropic's clients read it."""
    problem = problem_of(error)
    detail = problem.detail
    message = f"{detail.param}: {detail.message}" if detail.param else detail.message
    return AnthropicError(
        AnthropicErrorDetail(_ERROR_TYPES.get(problem.status, _default_error_type(problem.status)), message)
    )


def _default_error_type(status: int) -> str:
    return "invalid_request_error" if status < 500 else "api_error"
