"""Several answers in one stream: each in order, and all cancelled together."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from index.types import Passage
from models.errors import ProcessFailed
from models.llm.chat.events import Content, EndReason, ToolCallArguments, ToolCallStart, TurnEnd, TurnEvent
from models.llm.chat.logprobs import Candidate, ScoredToken
from models.llm.chat.messages import ChatMessage
from server.generation.answer import AnswerCitations, AnswerEvent, Grounding
from server.generation.stream import GenerationStream, Steps
from server.rag.citations import Citation
from server.rag.history import Turn, TurnRecord
from server.rag.options import CitationStyle
from server.rag.prompts import Source
from server.rag.report import RagReport

END = TurnEnd(EndReason.STOP, num_generated=3, num_reasoning=1, num_cached=4)
TEXT = "Yes, it is so. No, it is not."
SOURCES = {1: Source(1, Passage(7, 3, "handbook", "leave.md", (), TEXT, 1, 2, score=0.5), TEXT)}
RECORD = TurnRecord(b"key", Turn())
GROUNDING = Grounding(SOURCES, RagReport(), record=RECORD)
CALL = (ToolCallStart(0, "call_1", "leave"), ToolCallArguments(0, "{}"))


class ScriptedTurn:
    """A turn that yields these events, one a step; then fails with `error`, or waits for ever if it is endless."""

    def __init__(self, *events: TurnEvent, error: Exception | None = None, is_endless: bool = False) -> None:
        self._events = events
        self._error = error
        self._is_endless = is_endless
        self.is_closed = False

    async def steps(self) -> AsyncGenerator[list[TurnEvent], None]:
        try:
            for event in self._events:
                yield [event]
                await asyncio.sleep(0)
            if self._error:
                raise self._error
            if self._is_endless:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True


class Memory:
    """A conversation memory that records the replies."""

    def __init__(self) -> None:
        self.replies: list[ChatMessage] = []

    def remember(self, record: TurnRecord, reply: ChatMessage) -> None:
        assert record is RECORD
        self.replies.append(reply)


def with_logprob(text: str) -> Content:
    return Content(text, (ScoredToken(text, Candidate(text.encode(), -1.0)),))


async def start(*turns: Steps, grounding: Grounding | None = None, memory: Memory | None = None) -> GenerationStream:
    return await GenerationStream.start(10, turns, contextlib.AsyncExitStack(), grounding, memory)


async def collect(
    *turns: ScriptedTurn, grounding: Grounding | None = None
) -> tuple[GenerationStream, list[tuple[int, AnswerEvent]]]:
    """Return the stream of these turns when it has ended, and its events."""
    async with await start(*(each.steps() for each in turns), grounding=grounding) as stream:
        return stream, [event async for event in stream.events()]


def test_answers_are_interleaved_and_their_tokens_summed() -> None:
    turns = [ScriptedTurn(Content(f"{i}a"), Content(f"{i}b"), END) for i in range(3)]
    answers, events_by_answer = asyncio.run(collect(*turns))
    for i in range(3):
        assert [event for index, event in events_by_answer if index == i] == [Content(f"{i}a"), Content(f"{i}b"), END]
    assert [index for index, _ in events_by_answer] != sorted(index for index, _ in events_by_answer)
    assert (answers.num_generated, answers.num_reasoning, answers.num_cached) == (9, 3, 4)


def test_each_answer_has_its_own_markers_and_citations() -> None:
    pieces = [
        with_logprob("Yes"),
        with_logprob(" ["),
        with_logprob("9"),
        with_logprob("]"),
        with_logprob(" [1"),
        with_logprob("]."),
    ]
    _, events_by_answer = asyncio.run(
        collect(ScriptedTurn(*pieces, END), ScriptedTurn(with_logprob("No [1]"), END), grounding=GROUNDING)
    )
    first = [event for index, event in events_by_answer if index == 0]
    second = [event for index, event in events_by_answer if index == 1]
    assert "".join(event.text for event in first if isinstance(event, Content)) == "Yes [1]."
    assert "".join(t.text for event in first if isinstance(event, Content) for t in event.tokens) == "Yes [1]."
    assert first[-2:] == [AnswerCitations([Citation(1, 4, 7, "Yes, it is so.")]), END]
    assert second[-2:] == [AnswerCitations([Citation(1, 3, 6, "No, it is not.")]), END]


def test_without_grounding_a_marker_is_text() -> None:
    _, events_by_answer = asyncio.run(collect(ScriptedTurn(Content("x[9]"), END)))
    assert events_by_answer == [(0, Content("x[9]")), (0, END)]


def answer(*events: TurnEvent, style: CitationStyle, is_json: bool = False) -> tuple[str, list[AnswerCitations]]:
    """Return the text of an answer, and the events of its citations."""
    grounding = GROUNDING._replace(style=style, is_json=is_json)
    _, indexed = asyncio.run(collect(ScriptedTurn(*events, END), grounding=grounding))
    events_by_answer = [event for _, event in indexed]
    text = "".join(event.text for event in events_by_answer if isinstance(event, Content))
    return text, [event for event in events_by_answer if isinstance(event, AnswerCitations)]


@pytest.mark.parametrize(
    ("style", "is_listed", "is_annotated"),
    [("annotations", False, True), ("inline", True, False), ("both", True, True)],
)
def test_the_citation_style_decides_between_list_and_annotations(
    style: str, is_listed: bool, is_annotated: bool
) -> None:
    text, (citations,) = answer(Content("Yes [1, 9]."), style=CitationStyle(style))
    assert text == "Yes [1]."
    assert (citations.is_listed, citations.is_annotated) == (is_listed, is_annotated)


def test_the_citation_style_none_removes_every_marker() -> None:
    assert answer(Content("Yes [1], no [9]."), style=CitationStyle.NONE) == ("Yes, no.", [])


@pytest.mark.parametrize(
    "events", [(Content("Yes [1]."), *CALL), (with_logprob("Yes [1]."),), (Content("Yes [1].\n```\ncode"),)]
)
def test_no_source_list_follows_tool_calls_log_probabilities_or_open_code(events: tuple[TurnEvent, ...]) -> None:
    _, (citations,) = answer(*events, style=CitationStyle.BOTH)
    assert (citations.is_listed, citations.is_annotated) == (False, True)


def test_a_json_answer_keeps_its_text_and_has_its_strings_cited() -> None:
    json = '{"a": [1, 9], "b": [9], "c": "yes [1] [9]"}'
    text, (citations,) = answer(Content(json[:20]), Content(json[20:]), style=CitationStyle.BOTH, is_json=True)
    assert text == json
    assert [json[c.start : c.end] for c in citations.citations] == ["[1]"]
    assert not citations.is_listed
    assert answer(Content(json), style=CitationStyle.NONE, is_json=True) == (json, [])


def test_a_complete_reply_is_remembered_as_the_client_will_send_it_back() -> None:
    memory = Memory()
    turns = [
        ScriptedTurn(Content("So [1, 2] it is [9]."), *CALL, END),
        ScriptedTurn(Content("cut off"), is_endless=True),
    ]

    async def leave() -> None:
        async with await start(*(each.steps() for each in turns), grounding=GROUNDING, memory=memory) as answers:
            async for _, event in answers.events():
                if isinstance(event, TurnEnd):
                    break

    asyncio.run(leave())
    (reply,) = memory.replies
    assert (reply.role, reply.text) == ("assistant", "So [1] it is.")
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("leave", "{}")]


def test_a_failure_before_the_first_event_is_raised_by_start_and_cancels_the_other_answers() -> None:
    failing = ScriptedTurn(error=ProcessFailed("engine", "gone"))
    waiting = ScriptedTurn(is_endless=True)
    with pytest.raises(ProcessFailed):
        asyncio.run(collect(waiting, failing))
    assert waiting.is_closed


def test_closing_the_stream_cancels_every_answer() -> None:
    turns = [ScriptedTurn(Content("a"), is_endless=True) for _ in range(3)]

    async def leave() -> None:
        answers = await start(*(each.steps() for each in turns))
        await answers.aclose()
        await answers.aclose()

    asyncio.run(leave())
    assert [each.is_closed for each in turns] == [True] * 3
