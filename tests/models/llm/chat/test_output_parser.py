import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.llm.chat.events import Content, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.chat.output_parser import OutputParser
from models.llm.chat.output_syntax import OutputSyntax
from tests.models.llm.tool_syntax.samples import (
    CASES,
    CODER,
    FAMILIES,
    FOREIGN,
    GEMMA_4,
    GLM,
    GRANITE,
    HARMONY,
    HERMES,
    KIMI,
    KIMI_3,
    LFM2,
    LLAMA,
    M3,
    MINIMAX_3,
    MISTRAL,
    R1,
    RECIPIENTS,
    SAY,
    TOOLS,
    V3_1,
    V3_2,
    WEATHER,
    calls,
    content,
    plain,
)


def parse(source: str, pieces: Sequence[str], **options: Any) -> list[object]:
    parser = OutputParser(OutputSyntax.of(source), **options)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return plain([*events, *parser.feed("", final=True)])


def cut(text: str, cuts: Sequence[int]) -> list[str]:
    borders = [0, *sorted(at % (len(text) + 1) for at in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


@pytest.mark.parametrize(("source", "text", "expected"), CASES)
def test_text_is_parsed_alike_whole_and_character_by_character(source: str, text: str, expected: list[object]) -> None:
    assert parse(source, [text], tools=TOOLS) == expected
    assert parse(source, list(text), tools=TOOLS) == expected


@given(st.sampled_from(CASES), st.lists(st.integers(min_value=0), max_size=8))
def test_text_is_parsed_alike_in_any_pieces(case: tuple[str, str, list[object]], cuts: list[int]) -> None:
    source, text, expected = case
    assert parse(source, cut(text, cuts), tools=TOOLS) == expected


@given(st.sampled_from(CASES), st.integers(min_value=0))
def test_a_truncated_call_is_content(case: tuple[str, str, list[object]], at: int) -> None:
    source, text, expected = case
    text = text[: at % len(text)]
    events = parse(source, [text], tools=TOOLS)
    given_calls = [e for e in events if isinstance(e, tuple) and e[0] == "call"]
    wanted_calls = [e for e in expected if isinstance(e, tuple) and e[0] == "call"]
    assert given_calls == wanted_calls[: len(given_calls)]
    assert events == parse(source, list(text), tools=TOOLS)
    syntax = OutputSyntax.of(source)
    scaffold = [*syntax.family.skipped, *(syntax.reasoning or ())[:2]]
    if not given_calls and not any(str(mark) in text for mark in scaffold):
        assert content(events).strip() == text.removeprefix(syntax.family.lead).strip()


_MARKERS = sorted({m for source in FAMILIES for f in OutputSyntax.of(source).family.formats for m in f.markers})
_NOISE = st.lists(
    st.sampled_from(
        [*_MARKERS, '{"name": "say", "arguments": {', "}", "]", ">", "</", "\n", " ", "say", '"', "<think>"]
    )
    | st.text(max_size=4)
).map("".join)


@given(st.sampled_from(FAMILIES), _NOISE, st.lists(st.integers(min_value=0), max_size=6), st.booleans())
@example(HERMES, '<tool_call>{"name": "say", "arguments": {"a": ', [], False)
def test_any_text_is_parsed_alike_in_any_pieces_with_arguments_of_json(
    source: str, text: str, cuts: list[int], starts_in_reasoning: bool
) -> None:
    whole = parse(source, [text], starts_in_reasoning=starts_in_reasoning)
    assert parse(source, cut(text, cuts), starts_in_reasoning=starts_in_reasoning) == whole
    assert all(isinstance(e[2], dict) for e in whole if isinstance(e, tuple) and e[0] == "call")


@given(st.sampled_from([s for s in FAMILIES if not OutputSyntax.of(s).family.skipped]), _NOISE)
def test_text_without_calls_and_reasoning_is_content_to_the_letter(source: str, text: str) -> None:
    events = parse(source, [text])
    if not any(isinstance(e, tuple) and e[0] != "content" for e in events) and not text.lstrip().startswith("<think>"):
        assert content(events) == text


MALFORMED = [
    (HERMES, '<tool_call>{"name": "say", "arguments": {"a" 1}}</tool_call> x'),
    (HERMES, '<tool_call>{"name": "say", "arguments": {"a": 1,}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "say", "arguments": {"a": 1}</tool_call>'),
    (HERMES, '<tool_call>{"name": "say", "arguments": [1]}</tool_call>'),
    (HERMES, '<tool_call>{"name": "say", "arguments": "text"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "say", "arguments": {"a": NaN}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "say", "arguments": {"a": 1e999}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"arguments": {}}</tool_call>'),
    (HERMES, "<tool_call>\n[]\n</tool_call>"),
    (HERMES, "<tool_call>" + "[" * 99),
    (HERMES, '<tool_call>{"name": "say", "arguments": {"a": ' + '{"a": ' * 99),
    (CODER, "<tool_call>\n<function=say>\nhello\n</function>\n</tool_call>"),
    (CODER, "<function=say>\n<parameter=text>\nnever ending\n</parameter>"),
    (CODER, "<function=>\n</function>"),
    (GLM, "<tool_call>say<arg_key>text</arg_key>text</tool_call>"),
    (LLAMA, "<|python_tag|>print(1)"),
    (LLAMA, "<|python_tag|>import os"),
    (MISTRAL, '[TOOL_CALLS]say[ARGS]{"text": "a'),
    (MISTRAL, "[TOOL_CALLS]say now"),
    (V3_1, "<｜tool▁calls▁begin｜>say{}"),
    (HARMONY, "<|channel|>commentary to=functions.say"),
    (LFM2, "<|tool_call_start|>[say(text='a)]<|tool_call_end|>"),
    (LFM2, "<|tool_call_start|>[say(text)]<|tool_call_end|>"),
    (LFM2, "<|tool_call_start|>[say(text=other)]<|tool_call_end|>"),
    (GEMMA_4, "<|tool_call>call:weather{city:Köln}<tool_call|>"),
    (KIMI, "<|tool_call_begin|>functions.say:0{}"),
    (
        MINIMAX_3,
        f'{M3}<tool_call>\n{M3}<invoke name="say">{M3}<x>{M3}<y>1{M3}</y>{M3}</x>{M3}</invoke>{M3}</tool_call>',
    ),
]


@pytest.mark.parametrize(("source", "text"), MALFORMED)
def test_a_malformed_call_is_content(source: str, text: str) -> None:
    assert parse(source, [text]) == parse(source, list(text)) == [("content", text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '<tool_call>{"name": "say", "arguments": {}}</tool_call>\n<tool_call>{"name": oops}</tool_call>',
            [*calls(("say", {})), ("content", '<tool_call>{"name": oops}</tool_call>')],
        ),
        (
            '<tool_call>{"name": oops}</tool_call>\n<tool_call>{"name": "say", "arguments": {}}</tool_call>',
            [("content", '<tool_call>{"name": oops}</tool_call>'), *calls(("say", {}))],
        ),
        (
            '<tool_call>[{"name": "say", "arguments": {}}, {"name": oops}]</tool_call>',
            [*calls(("say", {})), ("content", ', {"name": oops}]</tool_call>')],
        ),
    ],
)
def test_a_malformed_call_does_not_hide_its_neighbours(text: str, expected: list[object]) -> None:
    assert parse(HERMES, [text]) == parse(HERMES, list(text)) == expected


@pytest.mark.parametrize(
    ("source", "fed", "out"),
    [
        (HERMES, ["Hello", " world"], ["Hello", " world"]),
        (HERMES, ["a <", "b <tool", "s"], ["a", " <b", " <tools"]),
        (HERMES, ["<", "t", "able>"], ["", "", "<table>"]),
        (HERMES, ["a\n", "\nb"], ["a", "\n\nb"]),
        (HERMES, ["<tool_call>x", "y"], ["<tool_call>x", "y"]),
        (HERMES, ['<tool_call>{"a": 1} ', "y"], ['<tool_call>{"a": 1}', " y"]),
        (HERMES, ['<tool_call>{"name" "x', "y"], ['<tool_call>{"name" "x', "y"]),
        (FOREIGN, ['{"title', '": 1'], ["", '{"title": 1']),
        (FOREIGN, ["Hi [", "1]"], ["Hi [", "1]"]),
        (LLAMA, ["[1] says", " so"], ["[1] says", " so"]),
        (HARMONY, ["<|channel|>final<|mess", "age|>Hi", " you<|"], ["", "Hi", " you"]),
        (MISTRAL, ["see [TOOL", "BOX]"], ["see", " [TOOLBOX]"]),
        (RECIPIENTS, ["al", "l\n", "Hi"], ["", "", "Hi"]),
    ],
)
def test_no_more_is_held_back_than_could_still_be_a_marker(source: str, fed: list[str], out: list[str]) -> None:
    parser = OutputParser(OutputSyntax.of(source), tools=TOOLS)
    assert [content(plain(parser.feed(text))) for text in fed] == out


def test_a_call_is_emitted_as_soon_as_it_is_complete() -> None:
    parser = OutputParser(OutputSyntax.of(HERMES))
    assert parser.feed('Ok\n<tool_call>{"name": "say", "arguments": {"text": "') == [Content("Ok")]
    assert plain(parser.feed('a"}}')) == calls(("say", {"text": "a"}))
    assert parser.feed("</tool_call>") == []
    assert parser.feed("", final=True) == []
    assert parser.feed("later", final=True) == []


def test_reasoning_is_emitted_as_it_is_generated() -> None:
    parser = OutputParser(OutputSyntax.of(HERMES), starts_in_reasoning=True)
    assert parser.feed("\nOne two") == [Reasoning("One two")]
    assert parser.feed(" three\n</thi") == [Reasoning(" three")]
    assert parser.feed("nk>\n\nHi") == [Content("Hi")]


@pytest.mark.parametrize("text", ["<think>\nHm.\n</think>\n\nHi", "\nHm.</think>Hi", "Hm.\n</think>\n\n\nHi"])
def test_text_before_the_end_of_reasoning_that_the_prompt_began_is_reasoning(text: str) -> None:
    expected = [("reasoning", "Hm."), ("content", "Hi")]
    assert parse(HERMES, [text], starts_in_reasoning=True) == expected
    assert parse(HERMES, list(text), starts_in_reasoning=True) == expected


@pytest.mark.parametrize("source", FAMILIES)
def test_without_tools_text_is_never_a_call(source: str) -> None:
    for case_source, text, _ in CASES:
        if case_source == source:
            events = parse(source, [text], tools_allowed=False, tools=TOOLS)
            assert events == parse(source, list(text), tools_allowed=False, tools=TOOLS)
            assert not any(isinstance(e, tuple) and e[0] == "call" for e in events)


@pytest.mark.parametrize(
    ("name", "key", "text", "value"),
    [
        ("weather", "city", "3", "3"),
        ("weather", "city", '{"a": 1}', '{"a": 1}'),
        ("weather", "days", "3", 3),
        ("weather", "days", "three", "three"),
        ("weather", "unit", "null", None),
        ("weather", "unit", "3", "3"),
        ("weather", "tags", '["a"]', ["a"]),
        ("weather", "tags", "['a']", ["a"]),
        ("weather", "exact", "True", True),
        ("weather", "zip", "50667", "50667"),
        ("weather", "zip", '{"a": 1}', {"a": 1}),
        ("weather", "step", "1", "1"),
        ("weather", "unknown", "1", 1),
        ("say", "text", "01", "01"),
        ("say", "text", '"quoted"', '"quoted"'),
        ("say", "text", "", ""),
        ("other", "x", "1.5", 1.5),
        ("other", "x", "(555)", "(555)"),
    ],
)
def test_arguments_written_without_type_get_it_from_the_schema(name: str, key: str, text: str, value: object) -> None:
    call = f"<tool_call>\n<function={name}>\n<parameter={key}>\n{text}\n</parameter>\n</function>\n</tool_call>"
    assert parse(CODER, [call], tools=TOOLS) == calls((name, {key: value}))


def test_half_a_surrogate_pair_stays_escaped() -> None:
    [_, arguments] = OutputParser(OutputSyntax.of(HERMES)).feed(
        '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}', final=True
    )
    assert arguments == ToolCallArguments(0, '{"a": "\\ud800"}')


@pytest.mark.parametrize("digits", ["9" * 400, "-" + "1" * 4000])
def test_a_number_too_large_for_a_float_keeps_its_digits(digits: str) -> None:
    text = f'<tool_call>{{"name": "say", "arguments": {{"a": {digits}}}}}</tool_call>'
    _, arguments = OutputParser(OutputSyntax.of(HERMES)).feed(text, final=True)
    assert arguments == ToolCallArguments(0, f'{{"a": {digits}}}')


def test_ids_of_calls_are_unique() -> None:
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>' * 50
    events = OutputParser(OutputSyntax.of(HERMES)).feed(text, final=True)
    assert len({event.id for event in events if isinstance(event, ToolCallStart)}) == 50


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(FAMILIES), st.dictionaries(st.text(), _JSON, max_size=3), st.lists(st.integers(min_value=0)))
def test_a_forced_call_is_parsed_as_that_call(source: str, arguments: dict[str, object], cuts: list[int]) -> None:
    syntax = OutputSyntax.of(source)
    form = syntax.forced_call("say")
    one = f"{form.begin}{json.dumps(arguments, ensure_ascii=False)}{form.end}"
    num_calls = 1 if form.separator is None else 2
    text = form.opening + (form.separator or "").join([one] * num_calls) + form.closing
    assert parse(source, cut(text, cuts), tools=TOOLS) == calls(("say", arguments)) * num_calls


@pytest.mark.parametrize("source", [s for s in FAMILIES if s != RECIPIENTS])
def test_written_calls_are_parsed_as_those_calls(source: str) -> None:
    written = OutputSyntax.of(source).write_calls([(name, json.dumps(arguments)) for name, arguments in (WEATHER, SAY)])
    assert parse(source, ["".join(part.text for part in written)], tools=TOOLS) == calls(WEATHER, SAY)
    assert "weather" not in "".join(part.text for part in written if not part.is_content)


@pytest.mark.parametrize("source", FAMILIES)
def test_no_marker_of_a_family_hides_another(source: str) -> None:
    """The longest marker is taken where several stand; calls and scaffold must not share one."""
    family = OutputSyntax.of(source).family
    begins = {begin for form in family.formats for begin in form.begins}
    assert begins.isdisjoint(family.skipped)
    assert "" not in begins


@pytest.mark.parametrize(
    ("source", "markers"),
    [
        (HERMES, {"<tool_call>", "</tool_call>", "<think>", "</think>"}),
        (MISTRAL, {"[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]"}),
        (LLAMA, {"<|python_tag|>"}),
        (LFM2, {"<|tool_call_start|>", "<|tool_call_end|>"}),
        (HARMONY, {"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|call|>", "<|constrain|>"}),
        (R1, {"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁calls▁end｜>"}),
        (V3_2, {"｜DSML｜"}),
        (KIMI, {"<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"}),
        (KIMI_3, {"<|open|>", "<|sep|>", "<|close|>"}),
        (GEMMA_4, {"<|tool_call>", "<tool_call|>", '<|"|>', "<|channel>", "<channel|>"}),
        (MINIMAX_3, {"]<]minimax[>["}),
        (GRANITE, {"<|tool_call|>"}),
        (FOREIGN, set()),
    ],
)
def test_control_markers_of_a_family_are_the_tokens_its_parser_needs_as_text(source: str, markers: set[str]) -> None:
    control_markers = OutputSyntax.of(source).control_markers
    assert markers <= control_markers
    assert all(not re.search(r"\s", marker) for marker in control_markers)
    assert control_markers or source == FOREIGN
