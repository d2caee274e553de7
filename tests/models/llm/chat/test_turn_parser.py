"""The events of a turn do not depend on how its text is cut, and scored tokens are those of the content."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.chat.events import Content, EndReason, Reasoning, ToolCallArguments, ToolCallStart, TurnEnd, TurnEvent
from models.llm.chat.logprobs import Candidate, ScoredToken
from models.llm.chat.output_parser import OutputParser
from models.llm.chat.output_syntax import OutputSyntax
from models.llm.chat.text_stream import TextDelta
from models.llm.chat.turn_parser import AssistantTurnParser
from models.llm.engine.sequence import FinishReason

HERMES = "<tool_call> </think>"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def scored_tokens(text: str) -> tuple[ScoredToken, ...]:
    return (ScoredToken(text, Candidate(text.encode(), -0.5)),)


def run(pieces: Sequence[str], reason: FinishReason = FinishReason.STOP, *, must_call: bool = False) -> list[TurnEvent]:
    turn = AssistantTurnParser(OutputParser(OutputSyntax.of(HERMES), True, False, [TOOL], must_call=must_call))
    events: list[TurnEvent] = []
    for at, piece in enumerate(pieces):
        is_last = at == len(pieces) - 1
        events += turn.feed(TextDelta(piece, 1, reason if is_last else None, 5, scored_tokens(piece)))
    return events


def cut(text: str, cuts: Sequence[int]) -> list[str]:
    borders = [0, *sorted(at % (len(text) + 1) for at in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


def plain(events: Sequence[TurnEvent]) -> tuple[str, str, list[tuple[str, str]], EndReason]:
    content = "".join(event.text for event in events if isinstance(event, Content))
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    names = [event.name for event in events if isinstance(event, ToolCallStart)]
    arguments = [event.text for event in events if isinstance(event, ToolCallArguments)]
    assert isinstance(events[-1], TurnEnd)
    assert not any(isinstance(event, TurnEnd) for event in events[:-1])
    return content, reasoning, list(zip(names, arguments, strict=True)), events[-1].reason


ADDED = ("add", '{"a": 1}')
TURNS: list[tuple[str, tuple[str, str, list[tuple[str, str]], EndReason]]] = [
    ("Hello <b>you</b>", ("Hello <b>you</b>", "", [], EndReason.STOP)),
    (f"<think>\nHm.\n</think>\n\nLet me see. {CALL}", ("Let me see.", "Hm.", [ADDED], EndReason.TOOL_CALLS)),
    (f"{CALL}\n{CALL}", ("", "", [ADDED, ADDED], EndReason.TOOL_CALLS)),
    ("<think>only", ("", "only", [], EndReason.STOP)),
    ("", ("", "", [], EndReason.STOP)),
]


@given(st.sampled_from(TURNS), st.lists(st.integers(0, 200), max_size=12))
def test_the_events_of_a_turn_do_not_depend_on_how_its_text_is_cut(
    case: tuple[str, tuple[str, str, list[tuple[str, str]], EndReason]], cuts: list[int]
) -> None:
    text, expected = case
    assert plain(run(cut(text, cuts))) == expected


@given(st.text(alphabet="ab <>/\n", max_size=40), st.lists(st.integers(0, 200), max_size=12))
def test_scored_tokens_are_those_of_the_content(text: str, cuts: list[int]) -> None:
    events = run(cut(text, cuts))
    token_text = "".join(t.text for event in events if isinstance(event, Content) for t in event.tokens)
    content = plain(events)[0]
    assert content in token_text  # a token may bring white space that the content leaves out
    assert token_text.strip() == content.strip()


def test_reasoning_and_calls_have_no_scored_tokens() -> None:
    events = run(["<think>", "a", "b", "</think>", "\n\n", "a", "b", "\n", *cut(CALL, range(0, 60, 3))])
    assert [t.text for event in events if isinstance(event, Content) for t in event.tokens] == ["a", "b"]


def test_the_end_of_a_turn_counts_tokens() -> None:
    end = run(["<think>", "a", "b", "</think>", "c"])[-1]
    assert end == TurnEnd(EndReason.STOP, num_generated=5, num_reasoning=3, num_cached=5)


@pytest.mark.parametrize("size", range(len("<tool_call>"), len(CALL) - len("}\n</tool_call>")))
def test_a_call_that_was_cut_off_is_left_out(size: int) -> None:
    content, _, calls, reason = plain(run(["Hi. ", CALL[:size]], FinishReason.LENGTH))
    assert (content, calls, reason) == ("Hi.", [], EndReason.LENGTH)


def test_text_that_was_cut_off_is_content() -> None:
    assert plain(run(["a <tool_ca"], FinishReason.LENGTH))[0] == "a <tool_ca"
    assert plain(run([CALL, CALL[:30]], FinishReason.LENGTH))[2:] == ([ADDED], EndReason.LENGTH)
