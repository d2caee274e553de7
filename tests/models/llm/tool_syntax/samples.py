"""Fragments of chat templates by family, tools, and turns of models with the events that they are parsed to."""

import json
import re
from collections.abc import Sequence
from typing import Any

from models.llm.chat.events import Content, ParsedEvent, Reasoning, ToolCallArguments, ToolCallStart

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


def content(events: Sequence[object]) -> str:
    return "".join(e[1] for e in events if isinstance(e, tuple) and e[0] == "content")


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
