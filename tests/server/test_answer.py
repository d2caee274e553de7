"""Several answers at the same time: in order each, told apart, and ended together."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from index.types import Passage
from models.errors import ProcessFailed
from models.llm.scored import Candidate, ScoredToken
from models.llm.tool_calls import Content
from models.llm.turn import EndReason, TurnEnd, TurnEvent
from server.answer import AnswerEvent, Answers, Cited
from server.rag.citations import Citation
from server.rag.prompts import Source

END = TurnEnd(EndReason.STOP, num_generated=3, num_reasoning=1, num_cached=4)
SOURCES = {1: Source(1, Passage(7, 3, "handbook", "leave.md", (), "text", 1, 2, score=0.5), "text")}


class Played:
    """Gives these events, one a step; then fails or, if told to, waits for ever."""

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


def scored(text: str) -> Content:
    return Content(text, (ScoredToken(text, Candidate(text.encode(), -1.0)),))


async def collect(answers: Answers) -> list[tuple[int, AnswerEvent]]:
    async with contextlib.aclosing(answers):
        await answers.start()
        return [told async for told in answers.events()]


def test_answers_come_interleaved_and_their_cost_is_summed() -> None:
    played = [Played(Content(f"{i}a"), Content(f"{i}b"), END) for i in range(3)]
    answers = Answers(10, None, [each.steps() for each in played])
    told = asyncio.run(collect(answers))
    for i in range(3):
        assert [event for index, event in told if index == i] == [Content(f"{i}a"), Content(f"{i}b"), END]
    assert [index for index, _ in told] != sorted(index for index, _ in told)
    assert (answers.num_generated, answers.num_reasoning, answers.num_cached) == (9, 3, 4)


def test_markers_are_filtered_and_cited_in_each_answer_on_its_own() -> None:
    pieces = [scored("Yes"), scored(" ["), scored("9"), scored("]"), scored(" [1"), scored("].")]
    answers = Answers(10, SOURCES, [Played(*pieces, END).steps(), Played(scored("No [1]"), END).steps()])
    told = asyncio.run(collect(answers))
    first = [event for index, event in told if index == 0]
    second = [event for index, event in told if index == 1]
    assert "".join(event.text for event in first if isinstance(event, Content)) == "Yes [1]."
    assert "".join(t.text for event in first if isinstance(event, Content) for t in event.tokens) == "Yes [1]."
    assert first[-2:] == [Cited([Citation(1, 4, 7)]), END]
    assert second[-2:] == [Cited([Citation(1, 3, 6)]), END]


def test_without_sources_a_marker_is_text() -> None:
    told = asyncio.run(collect(Answers(10, None, [Played(Content("x[9]"), END).steps()])))
    assert told == [(0, Content("x[9]")), (0, END)]


def test_what_fails_first_fails_before_the_first_byte_and_ends_the_others() -> None:
    failing = Played(error=ProcessFailed("engine", "gone"))
    waiting = Played(is_endless=True)
    answers = Answers(10, None, [waiting.steps(), failing.steps()])
    with pytest.raises(ProcessFailed):
        asyncio.run(collect(answers))
    assert waiting.is_closed


def test_closing_ends_all() -> None:
    played = [Played(Content("a"), is_endless=True) for _ in range(3)]
    answers = Answers(10, None, [each.steps() for each in played])

    async def leave() -> None:
        await answers.start()
        await answers.aclose()
        await answers.aclose()

    asyncio.run(leave())
    assert [each.is_closed for each in played] == [True] * 3
