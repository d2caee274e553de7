"""POST /v1/messages: answers in blocks, whole or as events."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from models.llm.chat.parser import Content, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.chat.turn import EndReason, TurnEnd
from server.api.anthropic.wire import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Citation,
    CitationDelta,
    Ended,
    ErrorDetail,
    ErrorReply,
    InputDelta,
    MessageDelta,
    MessageEvent,
    MessageReply,
    MessageStart,
    MessageStop,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToldBlock,
    ToolUseBlock,
    Usage,
)
from server.api.shared.rag import listed, reply_of
from server.api.shared.rag_wire import RagReply
from server.generation.stream import AnswerEvent, Cited, GenerationStream
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


class MessageStream:
    """The answer to one request. `model` is what the client calls it."""

    def __init__(self, model: str, answers: GenerationStream, base_url: str) -> None:
        self._model = model
        self._answers = answers
        self._base_url = base_url
        self._id = f"msg_{secrets.token_hex(12)}"
        self._num_blocks = 0
        self._open: type[ToldBlock] | None = None  # the kind of the block that is being told

    async def events(self) -> AsyncIterator[MessageEvent]:
        usage = Usage(self._answers.num_prompt, 0)
        yield MessageStart(MessageReply(id=self._id, model=self._model, usage=usage))
        async for _, event in self._answers.events():
            for told in self._told(event):
                yield told

    async def whole(self) -> MessageReply:
        blocks: list[ToldBlock] = []
        inputs: dict[int, str] = {}
        end: MessageDelta | None = None
        async for event in self.events():
            match event:
                case BlockStart(content_block=block):
                    blocks.append(block)
                case BlockDelta(index, InputDelta(text)):
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
        return MessageReply(
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

    def _told(self, event: AnswerEvent) -> Iterator[MessageEvent]:
        match event:
            case Content(text):
                yield from self._in(TextBlock(""))
                yield self._delta(TextDelta(text))
            case Reasoning(text):
                yield from self._in(ThinkingBlock(""))
                yield self._delta(ThinkingDelta(text))
            case ToolCallStart(_, call_id, name):
                yield from self._stop()
                yield from self._in(ToolUseBlock(call_id, name))
            case ToolCallArguments(_, text):
                yield self._delta(InputDelta(text))
            case Cited():
                yield from self._cited(event)
            case TurnEnd():
                yield from self._stop()
                yield self._end(event)
                yield MessageStop()

    def _in(self, block: ToldBlock) -> Iterator[MessageEvent]:
        """A block of this kind is open afterwards."""
        if self._open is type(block):
            return
        yield from self._stop()
        self._open = type(block)
        self._num_blocks += 1
        yield BlockStart(self._num_blocks - 1, block)

    def _stop(self) -> Iterator[MessageEvent]:
        if self._open is not None:
            self._open = None
            yield BlockStop(self._num_blocks - 1)

    def _delta(self, delta: TextDelta | ThinkingDelta | InputDelta | CitationDelta) -> BlockDelta:
        return BlockDelta(self._num_blocks - 1, delta)

    def _cited(self, event: Cited) -> Iterator[MessageEvent]:
        grounding = self._answers.grounding
        assert grounding, "only what is grounded is cited"
        yield from self._in(TextBlock(""))
        if event.is_listed:
            yield self._delta(TextDelta(listed(grounding, event.citations, self._base_url)))
        if event.is_annotated:
            for citation in event.citations:
                yield self._delta(CitationDelta(self._citation(citation)))

    def _citation(self, citation: citations.Citation) -> Citation:
        assert self._answers.grounding
        source = self._answers.grounding.sources[citation.number]
        return Citation(
            cited_text=citation.quote or source.text,
            source=passage_url(self._base_url, source.passage),
            title=source.label,
            search_result_index=citation.number - 1,
        )

    def _end(self, end: TurnEnd) -> MessageDelta:
        usage = Usage(self._answers.num_prompt - end.num_cached, end.num_generated, end.num_cached)
        return MessageDelta(Ended(_stop_reason(end), end.stopped_by), usage, self._rag())

    def _rag(self) -> RagReply | UnsetType:
        grounding = self._answers.grounding
        return reply_of(grounding.report, self._base_url) if grounding else UNSET


def _stop_reason(end: TurnEnd) -> str:
    match end.reason:
        case EndReason.TOOL_CALLS:
            return "tool_use"
        case EndReason.LENGTH:
            return "max_tokens"
        case EndReason.STOP:
            return "stop_sequence" if end.stopped_by else "end_turn"


def _longer(block: ToldBlock, delta: TextDelta | ThinkingDelta | InputDelta | CitationDelta) -> ToldBlock:
    match block, delta:
        case TextBlock(), TextDelta():
            return replace(block, text=block.text + delta.text)
        case TextBlock(), CitationDelta():
            return replace(block, citations=[*(block.citations or ()), delta.citation])
        case ThinkingBlock(), ThinkingDelta():
            return replace(block, thinking=block.thinking + delta.thinking)
    raise AssertionError("a delta is of its block's kind")


def error_reply(error: BaseException) -> ErrorReply:
    problem = problem_of(error)
    detail = problem.detail
    message = f"{detail.param}: {detail.message}" if detail.param else detail.message
    return ErrorReply(ErrorDetail(_ERRORS.get(problem.status, _by_class(problem.status)), message))


def _by_class(status: int) -> str:
    return "invalid_request_error" if status < 500 else "api_error"
