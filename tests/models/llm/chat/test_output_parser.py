import functools
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.llm.chat.chat_template import ChatTemplate
from models.llm.chat.events import Content, ParsedEvent, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.chat.messages import ChatMessage, ToolCall
from models.llm.chat.output_parser import OutputParser
from models.llm.chat.output_syntax import OutputSyntax

REAL_TEMPLATES = Path(__file__).parents[5] / "shared" / "chat_templates"

# What makes a template's source one of a family.
HERMES = "<tool_call> </think>"
CODER = "<tool_call> <function= <parameter= </think>"
SEED = "<seed:tool_call> <function= <parameter= <seed:think>"
GLM = "<tool_call> <arg_key> </think>"
LLAMA = '<|start_header_id|> "parameters": '
MISTRAL_LIST = "[TOOL_CALLS]"
MISTRAL = "[TOOL_CALLS] [ARGS] [THINK]"
R1 = "<｜tool▁call▁begin｜> ```json </think>"
V3_1 = "<｜tool▁call▁begin｜> </think>"
V3_2 = "｜DSML｜ function_calls> </think>"
HARMONY = "<|channel|> <|message|>"
LFM2 = "<|tool_call_start|>"
GRANITE = "<|tool_call|>"
PHI = "<|tool|> <|/tool|>"
KIMI = "<|tool_call_begin|> </think>"
GEMMA_4 = "<|tool_call>call: <|channel>thought"
MINIMAX = "<minimax:tool_call> </think>"
COMMAND = "<|START_ACTION|> <|START_THINKING|>"
APERTUS = "<|tools_prefix|>"
RECIPIENTS = ">>>all"
FUNCTIONARY = "<function="
ATEM = "<atem:function_calls>"
KIMI_3 = "<|open|> <|sep|>"
SOLAR = "<|tool_call:begin|>"
HUNYUAN = "<tool_sep{}> ':opensource'"
MINICPM = '<function name="'
NEMOTRON = "<TOOLCALL> </think>"
PLURAL = "<tool_calls>"
MINIMAX_3 = "]<]minimax[>["
FUNCTOOLS = "functools"
COMMAND_PLUS = "Action:\\n```json"
GIGACHAT = "<|function_call|>"
GENERIC = "tools"
FOREIGN = "{{ messages }}"
FAMILIES = [
    *(HERMES, CODER, SEED, GLM, LLAMA, MISTRAL_LIST, MISTRAL, R1, V3_1, V3_2, HARMONY, LFM2, GRANITE, PHI, KIMI),
    *(GEMMA_4, MINIMAX, COMMAND, APERTUS, RECIPIENTS, FUNCTIONARY, ATEM, KIMI_3, SOLAR, HUNYUAN, MINICPM, NEMOTRON),
    *(PLURAL, MINIMAX_3, FUNCTOOLS, COMMAND_PLUS, GIGACHAT, GENERIC, FOREIGN),
]

WEATHER, ADD = ("weather", {"city": "Köln", "days": 3}), ("add", {"a": 1, "b": -2.5})
SAY = ("say", {"text": "a </tool_call> b"})
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "unit": {"type": ["string", "null"]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "exact": {"type": "boolean"},
                    "zip": {"anyOf": [{"type": "string"}, {"type": "object"}]},
                    "step": {"enum": ["1", "2"]},
                },
            },
        },
    },
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "say"}},
]


def calls(*name_arguments: tuple[str, object]) -> list[object]:
    return [("call", name, arguments) for name, arguments in name_arguments]


def plain(events: Sequence[ParsedEvent]) -> list[object]:
    """Return the events joined by kind, without the ids of calls."""
    joined: list[object] = []
    for event in events:
        match event:
            case ToolCallStart():
                assert event.index == sum(isinstance(item, tuple) and item[0] == "call" for item in joined)
                assert re.fullmatch(r"call_[0-9a-f]{24}", event.id)
                joined.append(("call", event.name, ""))
            case ToolCallArguments():
                last = joined.pop()
                assert isinstance(last, tuple)
                joined.append((*last[:2], last[2] + event.text))
            case Content() | Reasoning():
                kind = type(event).__name__.lower()
                assert event.text
                if joined and isinstance(joined[-1], tuple) and joined[-1][0] == kind:
                    joined[-1] = (kind, joined[-1][1] + event.text)
                else:
                    joined.append((kind, event.text))
    return [(*item[:2], json.loads(item[2])) if item[0] == "call" else item for item in joined]  # type: ignore[index]


def parse(source: str, pieces: Sequence[str], **options: Any) -> list[object]:
    parser = OutputParser(OutputSyntax.of(source), **options)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return plain([*events, *parser.feed("", final=True)])


def content(events: Sequence[object]) -> str:
    return "".join(e[1] for e in events if isinstance(e, tuple) and e[0] == "content")


def cut(text: str, cuts: Sequence[int]) -> list[str]:
    borders = [0, *sorted(at % (len(text) + 1) for at in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


DSML = "<｜DSML｜"
M3 = "]<]minimax[>["
CASES: list[tuple[str, str, list[object]]] = [
    # Hermes, Qwen 2.5 and 3
    (
        HERMES,
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 3}}\n</tool_call>',
        calls(WEATHER),
    ),
    (
        HERMES,
        '<think>\nRain?\n</think>\n\nLet me look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", '
        '"days": 3}}\n</tool_call>\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": -2.5}}\n</tool_call>',
        [("reasoning", "Rain?"), ("content", "Let me look."), *calls(WEATHER, ADD)],
    ),
    (
        HERMES,
        '<tool_call>{"arguments": {"text": "a </tool_call> b"}, "name": "say"}</tool_call>\nDone.\n',
        [*calls(SAY), ("content", "Done.\n")],
    ),
    (
        HERMES,
        'One\n<tool_call>\n{"name": "say", "arguments": {}}\n</tool_call>\nTwo',
        [("content", "One"), *calls(("say", {})), ("content", "\nTwo")],
    ),
    (
        HERMES,
        '<tool_call>{"name": "say", "arguments": {"x": {"y": [{}, [{"z": "}]\\"{"}]]}}}',
        calls(("say", {"x": {"y": [{}, [{"z": '}]"{'}]]}})),
    ),
    (
        HERMES,
        '<tool_call>{"name": "say", "arguments": "{\\"text\\": \\"a\\\\nb\\"}"}</tool_call>',
        calls(("say", {"text": "a\nb"})),
    ),
    (HERMES, '<tool_call>{"name": "say"}</tool_call>', calls(("say", {}))),
    (
        HERMES,
        '<tool_call>[{"name": "say", "arguments": {}}, {"name": "add", "arguments": {"a": 1, "b": -2.5}}]</tool_call>',
        calls(("say", {}), ADD),
    ),
    (
        HERMES,
        '<tool_call>{"name": "say", "arguments": {"text": "\\ud83e\\udd8a é\\u00e9 C:\\\\x \\d raw\nline"}}',
        calls(("say", {"text": "🦊 éé C:\\x \\d raw\nline"})),
    ),
    (HERMES, "Use `<tool_call>` to call.", [("content", "Use `<tool_call>` to call.")]),
    (HERMES, "Then <think>x</think>", [("content", "Then <think>x</think>")]),
    (HERMES, "<think></think>\n\nHi\n", [("content", "Hi\n")]),
    (HERMES, "<think>never ending\n", [("reasoning", "never ending")]),
    (HERMES, "  Hi", [("content", "  Hi")]),
    (HERMES, "</think>\n\nHi", [("content", "Hi")]),
    # Qwen3-Coder, Qwen3.5
    (
        CODER,
        "Look:\n\n<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n3\n"
        "</parameter>\n</function>\n</tool_call>",
        [("content", "Look:"), *calls(WEATHER)],
    ),
    (
        CODER,
        "<function=say>\n<parameter=text>\n<parameter=x>\n1\n</parameter>, </function>\n\n</parameter>\n</function>",
        calls(("say", {"text": "<parameter=x>\n1\n</parameter>, </function>\n"})),
    ),
    (
        CODER,
        "<tool_call>\n<function=say>\n</function>\n</tool_call>\n<tool_call>\n<function=add>\n<parameter=a>\n1\n"
        "</parameter>\n<parameter=b>\n-2.5\n</parameter>\n</function>\n</tool_call>",
        calls(("say", {}), ADD),
    ),
    (
        CODER,
        "<tool_call>\n<function=say>\n<parameter=text>\na\n</parameter>\n</tool_call>",
        calls(("say", {"text": "a"})),
    ),
    (CODER, '<tool_call>\n{"name": "say", "arguments": {}}\n</tool_call>', calls(("say", {}))),
    (
        SEED,
        "<seed:think>Hm.</seed:think><seed:tool_call>\n<function=weather>\n<parameter=city>Köln</parameter>\n"
        "<parameter=tags>['a', 'b']</parameter>\n<parameter=exact>True</parameter>\n</function>\n</seed:tool_call>",
        [("reasoning", "Hm."), *calls(("weather", {"city": "Köln", "tags": ["a", "b"], "exact": True}))],
    ),
    # GLM
    (
        GLM,
        "<think>Hm.</think>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days"
        "</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>say\n</tool_call>",
        [("reasoning", "Hm."), *calls(WEATHER, ("say", {}))],
    ),
    (
        GLM,
        "<tool_call>say<arg_key>text</arg_key><arg_value>a </tool_call> b</arg_value></tool_call>",
        calls(SAY),
    ),
    # Llama 3
    (LLAMA, '{"name": "weather", "parameters": {"city": "Köln", "days": 3}}', calls(WEATHER)),
    (LLAMA, ' {"type": "function", "name": "say", "parameters": {}}\n', calls(("say", {}))),
    (
        LLAMA,
        '{"name": "say", "parameters": {}}; {"name": "add", "parameters": {"a": 1, "b": -2.5}}',
        calls(("say", {}), ADD),
    ),
    (LLAMA, '<|python_tag|>{"name": "say", "parameters": {}}', calls(("say", {}))),
    (LLAMA, '<|python_tag|>say.call(text="a </tool_call> b")', calls(SAY)),
    (LLAMA, "[weather(city='Köln', days=3), add(a=1, b=-2.5)]", calls(WEATHER, ADD)),
    (LLAMA, '{"name": "Ada", "parameters": {}}', [("content", '{"name": "Ada", "parameters": {}}')]),
    (LLAMA, '{"city": "Köln"}', [("content", '{"city": "Köln"}')]),
    (LLAMA, 'Sure: {"name": "say", "parameters": {}}', [("content", 'Sure: {"name": "say", "parameters": {}}')]),
    # Mistral
    (
        MISTRAL_LIST,
        'Hm.[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Köln", "days": 3}, "id": "a1b2c3d4e"}, {"name":'
        ' "say", "arguments": {}}]',
        [("content", "Hm."), *calls(WEATHER, ("say", {}))],
    ),
    (
        MISTRAL,
        '[THINK]Hm.[/THINK]Ok[TOOL_CALLS]weather[ARGS]{"city": "Köln", "days": 3}[TOOL_CALLS]say[CALL_ID]a1b2c3d4e'
        "[ARGS]{}",
        [("reasoning", "Hm."), ("content", "Ok"), *calls(WEATHER, ("say", {}))],
    ),
    (MISTRAL, '[TOOL_CALLS][{"name": "say", "arguments": {}}]', calls(("say", {}))),
    # DeepSeek
    (
        R1,
        "<think>\nHm.\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
        '{"city": "Köln", "days": 3}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>say'
        "\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [("reasoning", "Hm."), *calls(WEATHER, ("say", {}))],
    ),
    (
        V3_1,
        "Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>say<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>weather"
        '<｜tool▁sep｜>{"city": "Köln", "days": 3}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [("content", "Ok."), *calls(("say", {}), WEATHER)],
    ),
    (
        V3_1,
        "<think>Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>say<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [("reasoning", "Hm."), *calls(("say", {}))],
    ),
    (
        V3_2,
        f'Ok.\n\n{DSML}function_calls>\n{DSML}invoke name="weather">\n{DSML}parameter name="city" string="true">3'
        f'</｜DSML｜parameter>\n{DSML}parameter name="days" string="false">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
        "</｜DSML｜function_calls>",
        [("content", "Ok."), *calls(("weather", {"city": "3", "days": 3}))],
    ),
    # gpt-oss
    (
        HARMONY,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
        '<|constrain|>json<|message|>{"city": "Köln", "days": 3}<|call|>',
        [("reasoning", "Hm."), *calls(WEATHER)],
    ),
    (
        HARMONY,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi there.\n<|return|>",
        [("reasoning", "Hm."), ("content", "Hi there.\n")],
    ),
    (
        HARMONY,
        "<|channel|>commentary<|message|>I'll look.<|end|><|start|>assistant to=functions.say<|channel|>commentary "
        "json<|message|>{}<|call|>",
        [("content", "I'll look."), *calls(("say", {}))],
    ),
    # LFM2
    (
        LFM2,
        "<|tool_call_start|>[weather(city='Köln', days=3), say()]<|tool_call_end|>Looking.",
        [*calls(WEATHER, ("say", {})), ("content", "Looking.")],
    ),
    (
        LFM2,
        '<|tool_call_start|>[say(text="it\'s [1], {2}", x={"a": [True, None, (1, 2,)]}, y=-1.5e3)]<|tool_call_end|>',
        calls(("say", {"text": "it's [1], {2}", "x": {"a": [True, None, [1, 2]]}, "y": -1500.0})),
    ),
    (LFM2, '<|tool_call_start|>[{"name": "say", "arguments": {}}]<|tool_call_end|>', calls(("say", {}))),
    # Granite, Phi, Kimi, Gemma 4
    (GRANITE, '<|tool_call|>[{"name": "weather", "arguments": {"city": "Köln", "days": 3}}]', calls(WEATHER)),
    (PHI, '<|tool_call|>[{"name": "say", "arguments": {}}]<|/tool_call|>', calls(("say", {}))),
    (PHI, 'functools[{"name": "say", "arguments": {}}]', calls(("say", {}))),
    (
        KIMI,
        "<think>Hm.<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
        '{"city": "Köln", "days": 3}<|tool_call_end|><|tool_call_begin|>functions.say:1<|tool_call_argument_begin|>'
        "{}<|tool_call_end|><|tool_calls_section_end|>",
        [("reasoning", "Hm."), *calls(WEATHER, ("say", {}))],
    ),
    (
        GEMMA_4,
        '<|channel>thought\nHm.\n<channel|><|tool_call>call:weather{city:<|"|>Köln "x" {<|"|>,days:3,tags:[<|"|>a<|"|>]'
        "}<tool_call|><|tool_call>call:say{}<tool_call|>",
        [("reasoning", "Hm."), *calls(("weather", {"city": 'Köln "x" {', "days": 3, "tags": ["a"]}), ("say", {}))],
    ),
    # The rest
    (
        MINIMAX,
        '\n<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Köln</parameter>\n<parameter name='
        '"days">3</parameter>\n</invoke>\n<invoke name="say">\n</invoke>\n</minimax:tool_call>',
        calls(WEATHER, ("say", {})),
    ),
    (
        MINIMAX_3,
        f'{M3}<tool_call>\n{M3}<invoke name="weather">{M3}<city>Köln{M3}</city>{M3}<days>3{M3}</days>{M3}</invoke>\n'
        f"{M3}</tool_call>",
        calls(WEATHER),
    ),
    (
        COMMAND,
        '<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "weather", '
        '"parameters": {"city": "Köln", "days": 3}}\n]<|END_ACTION|>',
        [("reasoning", "Hm."), *calls(WEATHER)],
    ),
    (
        COMMAND_PLUS,
        'Action:\n```json\n[\n    {\n        "tool_name": "say",\n        "parameters": {}\n    }\n]```',
        calls(("say", {})),
    ),
    (
        APERTUS,
        '<|tools_prefix|>[{"weather": {"city": "Köln", "days": 3}}, {"say": {}}]<|tools_suffix|>',
        calls(WEATHER, ("say", {})),
    ),
    (RECIPIENTS, "all\nHi >>> you", [("content", "Hi >>> you")]),
    (RECIPIENTS, 'weather\n{"city": "Köln", "days": 3}>>>say\n{}', calls(WEATHER, ("say", {}))),
    (RECIPIENTS, "all\nOk.>>>say\n{}", [("content", "Ok."), *calls(("say", {}))]),
    (FUNCTIONARY, 'Ok.<function=say>{"text": "a </tool_call> b"}</function>', [("content", "Ok."), *calls(SAY)]),
    (
        ATEM,
        " to=self<|message|>Hm.<|eom|><|start|>assistant to=weather<|message|><atem:function_calls>\n<atem:invoke name="
        '"weather">\n<atem:parameter name="city">Köln</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>'
        "<|start|>assistant to=user<|message|>Hi",
        [("reasoning", "Hm."), *calls(("weather", {"city": "Köln"})), ("content", "Hi")],
    ),
    (
        KIMI_3,
        "<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>Ok.<|close|>response<|sep|><|open|>tools"
        '<|sep|><|open|>call tool="weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>3<|close|>'
        'argument<|sep|><|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|>'
        "<|close|>tools<|sep|><|close|>message<|sep|>",
        [("reasoning", "Hm."), ("content", "Ok."), *calls(("weather", {"city": "3", "days": 3}))],
    ),
    (
        SOLAR,
        "<|think|>Hm.<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>a1b2<|tool_call:name|>weather"
        '<|tool_call:args|>{"city": "Köln", "days": 3}<|tool_call:end|><|calls|>',
        [("reasoning", "Hm."), *calls(WEATHER)],
    ),
    (
        HUNYUAN,
        "<think:opensource>Hm.</think:opensource><tool_calls:opensource>\n<tool_call:opensource>say<tool_sep:opensource>"
        "\n<arg_key:opensource>text</arg_key:opensource>\n<arg_value:opensource>a</arg_value:opensource>\n"
        "</tool_call:opensource>\n</tool_calls:opensource>",
        [("reasoning", "Hm."), *calls(("say", {"text": "a"}))],
    ),
    (
        MINICPM,
        '<function name="say"><param name="text"><![CDATA[<b> & "c"]]></param><param name="n">3</param></function>',
        calls(("say", {"text": '<b> & "c"', "n": 3})),
    ),
    (NEMOTRON, '<TOOLCALL>[{"name": "say", "arguments": {}}]</TOOLCALL>', calls(("say", {}))),
    (
        PLURAL,
        '<tool_calls>\n{"name": "say", "arguments": {}}\n{"name": "add", "arguments": {"a": 1, "b": -2.5}}\n'
        "</tool_calls>",
        calls(("say", {}), ADD),
    ),
    (FUNCTOOLS, 'Ok functools[{"name": "say", "arguments": {}}]', [("content", "Ok"), *calls(("say", {}))]),
    (GIGACHAT, '<|function_call|>{"name": "say", "arguments": {}}', calls(("say", {}))),
    # A plain object, where nothing is known of the model
    (GENERIC, '```json\n{"name": "say", "arguments": {"text": "a </tool_call> b"}}\n```', calls(SAY)),
    (FOREIGN, '\n{"name": "say", "arguments": {}}\n{"name": "say", "arguments": {}}', calls(("say", {}), ("say", {}))),
    (FOREIGN, '[{"name": "say", "arguments": {}}]', calls(("say", {}))),
    (FOREIGN, "```json\n[1, 2]\n```", [("content", "```json\n[1, 2]\n```")]),
    (FOREIGN, '{"name": "say", "age": 3}', [("content", '{"name": "say", "age": 3}')]),
]


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


# Every real template: its family, and what the model's reasoning begins with.
NAMES = {
    "Apertus-8B-Instruct": ("apertus", "<|inner_prefix|>"),
    "Apriel-1.6-15b-Thinker-fixed": ("tool-calls", "Here are my reasoning steps:"),
    "Bielik-11B-v3.0-Instruct": ("hermes", "<think>"),
    "ByteDance-Seed-OSS": ("seed", "<seed:think>"),
    "Cohere2MoE": ("command-r7b", "<|START_THINKING|>"),
    "CohereForAI-c4ai-command-r-plus-tool_use": ("command-r", None),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("command-r7b", "<|START_THINKING|>"),
    "GLM-4.6": ("glm", "<think>"),
    "GLM-4.7-Flash": ("glm", "<think>"),
    "GigaChat3-10B-A1.8B": ("gigachat-role", None),
    "GigaChat3.1-10B-A1.8B": ("gigachat", None),
    "HuggingFaceTB-SmolLM3-3B": ("json", "<think>"),
    "Kimi-K2-Instruct": ("kimi", None),
    "Kimi-K2-Thinking": ("kimi", "<think>"),
    "Kimi-K3": ("kimi-3", "<|open|>think<|sep|>"),
    "LFM2-8B-A1B": ("lfm2", None),
    "LFM2.5-8B-A1B": ("lfm2", "<think>"),
    "LFM2.5-Instruct": ("lfm2", "<think>"),
    "MiMo-VL": ("hermes", None),
    "MiniMax-M1": ("tool-calls", None),
    "MiniMax-M2": ("minimax", "<think>"),
    "MiniMax-M3": ("minimax-3", "<mm:think>"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral-named", None),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("qwen-coder", "<think>"),
    "NVIDIA-Nemotron-Nano-v2": ("nemotron", "<think>"),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": ("hermes", None),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("hermes", None),
    "Qwen-QwQ-32B": ("hermes", "<think>"),
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", None),
    "Qwen-Qwen3-0.6B": ("hermes", "<think>"),
    "Qwen3-Coder": ("qwen-coder", None),
    "Qwen3.5-4B": ("qwen-coder", "<think>"),
    "Reka-Edge": ("hermes", "<think>"),
    "Spark2.5": ("glm", "<think>"),
    "StepFun3.5-Flash": ("qwen-coder", "<think>"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("deepseek-r1", "<think>"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("deepseek-r1", "<think>"),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek-v3.1", "<think>"),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek-v3.2", "<think>"),
    "deepseek-ai-DeepSeek-V4": ("deepseek-v4", "<think>"),
    "deepseek-ai-DeepSeek-V4-Flash-0731": ("deepseek-v4", "<think>"),
    "fireworks-ai-llama-3-firefunction-v2": ("functools", None),
    "google-gemma-2-2b-it": ("json", None),
    "google-gemma-4-31B-it": ("gemma-4", "<|channel>thought"),
    "google-gemma-4-31B-it-interleaved": ("gemma-4", "<|channel>thought"),
    "ibm-granite-granite-3.3-2B-Instruct": ("granite", "<think>"),
    "ibm-granite-granite-4.0": ("hermes", None),
    "ibm-granite-granite-4.1": ("hermes", None),
    "inclusionai-ling-3.0-flash": ("glm", "<think>"),
    "llama-cpp-deepseek-r1": ("deepseek-r1", "<think>"),
    "llama-cpp-rwkv-world": ("json", "<think>"),
    "meetkai-functionary-medium-v3.1": ("functionary", None),
    "meetkai-functionary-medium-v3.2": ("functionary-recipients", None),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama-3", None),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama-3", None),
    "meta-llama-Llama-3.3-70B-Instruct": ("llama-3", None),
    "microsoft-Phi-3.5-mini-instruct": ("json", None),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("mistral-named", "[THINK]"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral", None),
    "moonshotai-Kimi-K2": ("kimi", None),
    "muse-glimmer": ("atem", "to=self<|message|>"),
    "openai-gpt-oss-120b": ("harmony", "<|channel|>analysis<|message|>"),
    "openbmb-MiniCPM5-1B": ("minicpm", "<think>"),
    "poolside-Laguna-S-2.1": ("glm", "<think>"),
    "poolside-Laguna-XS-2.1": ("glm", "<think>"),
    "poolside-Laguna-XS.2": ("glm", "<think>"),
    "tencent-Hy3": ("hunyuan", "<think:opensource>"),
    "unsloth-Apriel-1.5": ("tool-calls", "Here are my reasoning steps:"),
    "unsloth-mistral-Devstral-Small-2507": ("mistral-named", None),
    "upstage-Solar-Open-100B": ("solar", "<|think|>"),
}
# The template writes strings in quotes without escaping them; the reader takes no values in nested tags.
EASY_ONLY = {"LFM2.5-8B-A1B", "MiniMax-M3"}
EASY: list[tuple[str, dict[str, object]]] = [WEATHER, ADD]
HARD: list[tuple[str, dict[str, object]]] = [
    ("weather", {"city": 'a\n"b" <c> \\ {d} </tool_call> it\'s 🦊', "tags": ["x", "y"], "exact": True, "unit": None}),
    ("add", {"a": {"b": [None, {}, "c"]}, "d": 0.1}),
]
REAL = sorted(REAL_TEMPLATES.glob("*.jinja"))
real_templates = pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)


@functools.cache
def real_template(path: Path) -> ChatTemplate:
    return ChatTemplate(path.read_text(), bos="<BOS>", eos="<EOS>")


@real_templates
def test_the_family_of_a_real_template_is_detected(path: Path) -> None:
    syntax = OutputSyntax.of(path.read_text())
    assert (syntax.name, syntax.reasoning and syntax.reasoning.begin) == NAMES.get(path.stem, (syntax.name, None))
    assert syntax.is_native is ("tools" in path.read_text() or syntax.name != "json")


def assistant_turn(template: ChatTemplate, name_arguments: Sequence[tuple[str, dict[str, object]]]) -> str:
    """Return the text that the model would have generated, and the end of its turn."""
    tool_calls = tuple(
        ToolCall(f"call_{at}", name, json.dumps(arguments, ensure_ascii=False))
        for at, (name, arguments) in enumerate(name_arguments)
    )
    messages = [ChatMessage.of_text("user", "Hi"), ChatMessage.of_text("assistant", tool_calls=tool_calls)]
    prompt = "".join(segment.text for segment in template.render(messages[:1], TOOLS))
    whole = "".join(segment.text for segment in template.render(messages, TOOLS, add_generation_prompt=False))
    at = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), min(len(prompt), len(whole)))
    tag = whole.rfind("<", at - 20, at)  # prompts may open reasoning, and share the beginning of its name
    return whole[tag if tag > whole.rfind(">", 0, at) else at :]


@real_templates
@pytest.mark.parametrize("is_hard", [False, True], ids=["easy", "hard"])
def test_calls_that_a_real_template_renders_are_parsed_as_those_calls(path: Path, is_hard: bool) -> None:
    template = real_template(path)
    name_arguments = HARD if is_hard else EASY
    for some in [name_arguments[:1], name_arguments[1:], name_arguments]:
        if len(some) > 1 and template.syntax.name in ("llama-3", "harmony", "gigachat", "gigachat-role"):
            continue  # one call to a turn, and a turn for each
        turn = assistant_turn(template, some)
        events = plain(OutputParser(template.syntax, tools=TOOLS).feed(turn, final=True))
        is_read = [e for e in events if isinstance(e, tuple) and e[0] == "call"][: len(some)] == calls(*some)
        assert (is_read and "city" not in content(events)) or (is_hard and path.stem in EASY_ONLY), turn


@real_templates
def test_the_end_of_a_prompt_tells_whether_reasoning_has_begun(path: Path) -> None:
    template = real_template(path)
    for is_on in (False, True):
        last = template.render([ChatMessage.of_text("user", "Hi")], options={"enable_thinking": is_on})[-1]
        begins = template.syntax.starts_in_reasoning(last.text)
        tail = last.text.rstrip()
        assert begins == tail.endswith(
            ("<think>", "<seed:think>", "reasoning steps:", "<|START_THINKING|>", "<|open|>think<|sep|>")
        )
