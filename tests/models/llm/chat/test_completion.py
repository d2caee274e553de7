"""The events of bare completions: where they end, and when."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from models.llm.chat.completion import BoundedCompletion, completion_events
from models.llm.chat.events import Content, EndReason, TurnEnd, TurnEvent
from models.llm.chat.text_stream import TextDelta
from models.llm.engine.sequence import FinishReason
from models.llm.params import CompletionBounds


def deltas(text: str, size: int = 1, end: FinishReason = FinishReason.STOP) -> list[TextDelta]:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [*(TextDelta(piece, 1, None, 0) for piece in pieces), TextDelta("", 0, end, 0)]


def complete(text: str, bounds: CompletionBounds, size: int = 1) -> tuple[str, EndReason]:
    completion = BoundedCompletion(bounds)
    events: list[TurnEvent] = []
    for delta in deltas(text, size):
        if not completion.is_ended:
            events += completion.feed(delta)
    end = events[-1]
    assert isinstance(end, TurnEnd)
    return "".join(event.text for event in events if isinstance(event, Content)), end.reason


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("text", "indent", "expected", "reason"),
    [
        ("a\n    b\nc", 4, "a\n    b", EndReason.LENGTH),
        ("a\n  b", 4, "a", EndReason.LENGTH),
        ("a\n\n    b\n    c", 4, "a\n\n    b\n    c", EndReason.STOP),
        ("a\n  ", 4, "a\n  ", EndReason.STOP),
        ("a\nb\nc", 0, "a\nb\nc", EndReason.STOP),
        ("a\n\tb\nc", 1, "a\n\tb", EndReason.LENGTH),
    ],
)
def test_a_line_with_less_indent_ends_the_completion(
    text: str, indent: int, expected: str, reason: EndReason, size: int
) -> None:
    assert complete(text, CompletionBounds(indent=indent), size) == (expected, reason)


def test_the_time_limit_counts_from_the_first_token_and_ends_the_completion_after_a_line() -> None:
    now = 100.0
    completion = BoundedCompletion(CompletionBounds(predict_s=1), lambda: now)
    assert completion.feed(TextDelta("a", 1, None, 5)) == [Content("a")]
    now += 2
    assert completion.feed(TextDelta("b", 1, None, 5)) == [Content("b")]
    assert completion.feed(TextDelta("\n", 1, None, 5)) == [Content("\n"), TurnEnd(EndReason.LENGTH, 3, 0, 5)]


async def stream(
    source: list[TextDelta], closed: list[bool], wait: asyncio.Event | None = None
) -> AsyncGenerator[TextDelta, None]:
    try:
        if wait:
            await wait.wait()
        for delta in source:
            yield delta
    finally:
        closed.append(True)


async def collect(
    source: AsyncGenerator[TextDelta, None], bounds: CompletionBounds, *, is_read_only: bool = False
) -> list[TurnEvent]:
    return [event async for events in completion_events(source, bounds, is_read_only=is_read_only) for event in events]


def test_a_prompt_that_takes_longer_than_its_limit_ends_the_completion() -> None:
    closed: list[bool] = []

    async def main() -> list[TurnEvent]:
        return await collect(stream(deltas("abc"), closed, asyncio.Event()), CompletionBounds(prompt_s=0.01))

    assert asyncio.run(main()) == [TurnEnd(EndReason.LENGTH, 0, 0, 0)]
    assert closed == [True]


def test_reading_only_the_prompt_emits_no_token() -> None:
    closed: list[bool] = []
    events = asyncio.run(collect(stream([TextDelta("a", 1, None, 7)], closed), CompletionBounds(), is_read_only=True))
    assert events == [TurnEnd(EndReason.LENGTH, 0, 0, 7)]
    assert closed == [True]


def test_no_events_follow_the_end_of_a_completion() -> None:
    closed: list[bool] = []
    events = asyncio.run(collect(stream(deltas("a\nb c"), closed), CompletionBounds(indent=2)))
    assert events == [Content("a"), TurnEnd(EndReason.LENGTH, 3, 0, 0)]
    assert closed == [True]
