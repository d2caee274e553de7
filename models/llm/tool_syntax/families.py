"""The families of models that write calls and reasoning alike, each as its formats and its way of forced calls."""

from dataclasses import replace

from models.llm.tool_syntax.calls import ForcedCall
from models.llm.tool_syntax.family import ReasoningMarkers, SyntaxFamily
from models.llm.tool_syntax.json_calls import JsonCalls
from models.llm.tool_syntax.python_calls import PythonCalls
from models.llm.tool_syntax.tagged_calls import ParameterTags, TaggedCalls
from models.llm.tool_syntax.values import GEMMA


def _json_objects(
    opening: str, closing: str, arguments: str = "arguments", *, separator: str | None = "\n"
) -> ForcedCall:
    """Return the form with one JSON object for each call."""
    return ForcedCall(f'{opening}{{"name": "NAME", "{arguments}": ', "}" + closing, separator)


def _json_list(opening: str, closing: str, name: str = "name", arguments: str = "arguments") -> ForcedCall:
    """Return the form with one JSON list of all calls."""
    return ForcedCall(f'{{"{name}": "NAME", "{arguments}": ', "}", ", ", f"{opening}[", f"]{closing}")


_HERMES = JsonCalls("<tool_call>", "</tool_call>")
_GUESSES = (JsonCalls(is_guess=True), JsonCalls("```json", "```", is_guess=True))

HERMES = SyntaxFamily("hermes", (_HERMES,), _json_objects("<tool_call>\n", "\n</tool_call>"))

_FUNCTION = TaggedCalls(
    ("<function=",),
    ("</function>",),
    ">",
    ParameterTags("<parameter=", ">", "</parameter>", is_padded=True),
    ("<tool_call>",),
    "</tool_call>",
)
QWEN_CODER = SyntaxFamily(
    "qwen-coder",
    (_FUNCTION, _HERMES),
    ForcedCall("<tool_call>\n<function=NAME>\n", "\n</function>\n</tool_call>", "\n"),
)
SEED = SyntaxFamily(
    "seed",
    (
        replace(
            _FUNCTION,
            parameter=ParameterTags("<parameter=", ">", "</parameter>"),
            section=("<seed:tool_call>",),
            section_end="</seed:tool_call>",
        ),
    ),
    ForcedCall("<seed:tool_call>\n<function=NAME>\n", "\n</function>\n</seed:tool_call>", "\n"),
)
FUNCTIONARY = SyntaxFamily(
    "functionary",
    (TaggedCalls(("<function=",), ("</function>",), ">"),),
    ForcedCall("<function=NAME>", "</function>", ""),
)
FUNCTIONARY_RECIPIENTS = SyntaxFamily(
    "functionary-recipients",
    (TaggedCalls((">>>",), (), "\n", is_open_at_start=True),),
    ForcedCall("NAME\n", "", ">>>"),
    skipped=(">>>all\n",),
    lead="all\n",
)


def _glm(mark: str) -> SyntaxFamily:
    begin, end = f"<tool_call{mark}>", f"</tool_call{mark}>"
    parameter = ParameterTags(
        f"<arg_key{mark}>", f"</arg_key{mark}>", f"</arg_value{mark}>", value_begin=f"<arg_value{mark}>"
    )
    if not mark:
        calls = TaggedCalls((begin,), (end,), parameter=parameter)
        return SyntaxFamily("glm", (calls, _HERMES), ForcedCall(f"{begin}NAME\n", f"\n{end}", "\n"))
    section, section_end, separator = f"<tool_calls{mark}>", f"</tool_calls{mark}>", f"<tool_sep{mark}>"
    return SyntaxFamily(
        "hunyuan",
        (TaggedCalls((begin,), (end,), separator, parameter, (section,), section_end),),
        ForcedCall(f"{begin}NAME{separator}\n", f"\n{end}", "\n", f"{section}\n", f"\n{section_end}"),
        reasoning=ReasoningMarkers(f"<think{mark}>", f"</think{mark}>"),
    )


GLM = _glm("")
HUNYUAN = _glm(":opensource")


def _invokes(
    name: str, mark: str, section: str, parameter: str, type_end: str = "", header: tuple[str, ...] = ()
) -> SyntaxFamily:
    """Return a family that writes `<invoke name="…">` with a tag for each argument; `mark` precedes tag names."""
    key_end = '" string="' if type_end else '">'
    calls = TaggedCalls(
        (f'<{mark}invoke name="',),
        (f"</{mark}invoke>",),
        '">',
        ParameterTags(f'<{mark}{parameter} name="', key_end, f"</{mark}{parameter}>", type_end=type_end),
        (*header, f"<{mark}{section}>"),
        f"</{mark}{section}>",
    )
    begin, end = f'<{mark}invoke name="NAME">\n', f"\n</{mark}invoke>"
    forced = ForcedCall(begin, end, "\n", f"<{mark}{section}>\n", f"\n</{mark}{section}>")
    return SyntaxFamily(name, (calls,), forced)


MINIMAX_2 = _invokes("minimax", "", "minimax:tool_call", "parameter")
_M3 = "]<]minimax[>["
MINIMAX_3 = SyntaxFamily(
    "minimax-3",
    (
        TaggedCalls(
            (f'{_M3}<invoke name="',),
            (f"{_M3}</invoke>",),
            '">',
            ParameterTags(f"{_M3}<", ">", f"{_M3}</{{key}}>", is_flat=True),
            (f"{_M3}<tool_call>",),
            f"{_M3}</tool_call>",
        ),
    ),
    ForcedCall(f'{_M3}<invoke name="NAME">', f"{_M3}</invoke>", "\n", f"{_M3}<tool_call>\n", f"\n{_M3}</tool_call>"),
)
MINICPM = SyntaxFamily(
    "minicpm",
    (
        TaggedCalls(
            ('<function name="',),
            ("</function>",),
            '">',
            ParameterTags('<param name="', '">', "</param>", has_cdata=True),
        ),
    ),
    ForcedCall('<function name="NAME">', "</function>", "\n"),
)
_ATEM = _invokes("atem", "atem:", "function_calls", "parameter", header=("to=",))
ATEM = replace(
    _ATEM,
    skipped=("<|start|>assistant", "to=user<|message|>", "<|eom|>", "<|eot|>"),
    reasoning=ReasoningMarkers("to=self<|message|>", "<|eom|>", is_anywhere=True),
    forced=ForcedCall(
        ' to=NAME<|message|><atem:function_calls>\n<atem:invoke name="NAME">\n',
        "\n</atem:invoke>\n</atem:function_calls>",
        "<|eom|><|start|>assistant",
    ),
)

MISTRAL_LIST = SyntaxFamily("mistral", (JsonCalls("[TOOL_CALLS]"),), _json_list("[TOOL_CALLS]", ""))
MISTRAL = SyntaxFamily(
    "mistral-named",
    (TaggedCalls(("[TOOL_CALLS]",), (), "[ARGS]"), JsonCalls("[TOOL_CALLS]")),
    ForcedCall("[TOOL_CALLS]NAME[ARGS]", "", ""),
)
_DEEPSEEK_CALL, _DEEPSEEK_CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_DEEPSEEK_SECTION, _DEEPSEEK_SECTION_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
DEEPSEEK_R1 = SyntaxFamily(
    "deepseek-r1",
    (
        TaggedCalls(
            (_DEEPSEEK_CALL, "<｜tool▁sep｜>"),
            ("```", _DEEPSEEK_CALL_END),
            "\n```json\n",
            section=(_DEEPSEEK_SECTION,),
            section_end=_DEEPSEEK_SECTION_END,
        ),
    ),
    ForcedCall(
        f"{_DEEPSEEK_CALL}function<｜tool▁sep｜>NAME\n```json\n",
        f"\n```{_DEEPSEEK_CALL_END}",
        "\n",
        _DEEPSEEK_SECTION,
        _DEEPSEEK_SECTION_END,
    ),
)
DEEPSEEK_V3_1 = SyntaxFamily(
    "deepseek-v3.1",
    (
        TaggedCalls(
            (_DEEPSEEK_CALL,),
            (_DEEPSEEK_CALL_END,),
            "<｜tool▁sep｜>",
            section=(_DEEPSEEK_SECTION,),
            section_end=_DEEPSEEK_SECTION_END,
        ),
    ),
    ForcedCall(f"{_DEEPSEEK_CALL}NAME<｜tool▁sep｜>", _DEEPSEEK_CALL_END, "", _DEEPSEEK_SECTION, _DEEPSEEK_SECTION_END),
)
DEEPSEEK_V3_2 = _invokes("deepseek-v3.2", "｜DSML｜", "function_calls", "parameter", '">')
DEEPSEEK_V4 = _invokes("deepseek-v4", "｜DSML｜", "tool_calls", "parameter", '">')
KIMI = SyntaxFamily(
    "kimi",
    (
        TaggedCalls(
            ("<|tool_call_begin|>",),
            ("<|tool_call_end|>",),
            "<|tool_call_argument_begin|>",
            section=("<|tool_calls_section_begin|>",),
            section_end="<|tool_calls_section_end|>",
            is_counted=True,
        ),
    ),
    ForcedCall(
        "<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "",
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
    ),
)
KIMI_3 = SyntaxFamily(
    "kimi-3",
    (
        TaggedCalls(
            ('<|open|>call tool="',),
            ("<|close|>call<|sep|>",),
            '"<|sep|>',
            ParameterTags('<|open|>argument key="', '" type="', "<|close|>argument<|sep|>", type_end='"<|sep|>'),
            ("<|open|>tools<|sep|>",),
            "<|close|>tools<|sep|>",
        ),
    ),
    ForcedCall(
        '<|open|>call tool="NAME" index="1"<|sep|>',
        "<|close|>call<|sep|>",
        None,
        "<|open|>tools<|sep|>",
        "<|close|>tools<|sep|>",
    ),
    skipped=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
    reasoning=ReasoningMarkers("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
)
SOLAR = SyntaxFamily(
    "solar",
    (
        TaggedCalls(
            ("<|tool_call:begin|>", "<|tool_call:name|>"),
            ("<|tool_call:end|>",),
            "<|tool_call:args|>",
            section=("<|tool_calls|>",),
            section_end="<|calls|>",
        ),
    ),
    ForcedCall(
        "<|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>NAME<|tool_call:args|>",
        "<|tool_call:end|>",
        "",
        "<|tool_calls|>",
        "<|calls|>",
    ),
    skipped=("<|begin|>assistant", "<|content|>", "<|end|>"),
    reasoning=ReasoningMarkers("<|think|>", "<|end|>", is_anywhere=True),
)
# OpenAI's harmony: every message names its channel, and a call its recipient, before or after the channel.
HARMONY = SyntaxFamily(
    "harmony",
    tuple(
        TaggedCalls((begin,), ("<|call|>",), "<|message|>")
        for begin in (
            "<|channel|>commentary to=functions.",
            "<|channel|>analysis to=functions.",
            "<|channel|>final to=functions.",
            "to=functions.",
        )
    ),
    ForcedCall("<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>", "<|call|>"),
    skipped=(
        "<|start|>assistant",
        "<|channel|>commentary<|message|>",
        "<|channel|>final<|message|>",
        "<|end|>",
        "<|return|>",
    ),
    reasoning=ReasoningMarkers("<|channel|>analysis<|message|>", "<|end|>", is_anywhere=True),
    before_answer="<|channel|>final<|message|>",
    after_reasoning="<|start|>assistant",
)
LFM2 = SyntaxFamily(
    "lfm2",
    (
        PythonCalls("<|tool_call_start|>", "<|tool_call_end|>"),
        JsonCalls("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    _json_list("<|tool_call_start|>", "<|tool_call_end|>"),
    is_pythonic=True,
)
GEMMA_4 = SyntaxFamily(
    "gemma-4",
    (TaggedCalls(("<|tool_call>call:",), ("<tool_call|>",), dialect=GEMMA),),
    ForcedCall("<|tool_call>call:NAME", "<tool_call|>", ""),
)
LLAMA_3 = SyntaxFamily(
    "llama-3",
    (JsonCalls("<|python_tag|>"), PythonCalls("<|python_tag|>"), *_GUESSES, PythonCalls()),
    _json_objects("", "", "parameters", separator=None),
)
GRANITE = SyntaxFamily(
    "granite",
    (JsonCalls("<|tool_call|>", "<|/tool_call|>"), _HERMES),
    _json_list("<|tool_call|>", ""),
)
PHI = SyntaxFamily(
    "phi",
    (JsonCalls("<|tool_call|>", "<|/tool_call|>"), JsonCalls("functools")),
    _json_list("<|tool_call|>", "<|/tool_call|>"),
)
FUNCTOOLS = SyntaxFamily("functools", (JsonCalls("functools"),), _json_list(" functools", ""))
COMMAND_R7B = SyntaxFamily(
    "command-r7b",
    (JsonCalls("<|START_ACTION|>", "<|END_ACTION|>"),),
    _json_list("<|START_ACTION|>", "<|END_ACTION|>", "tool_name", "parameters"),
)
COMMAND_R = SyntaxFamily(
    "command-r",
    (JsonCalls("Action:\n```json\n", "```"),),
    _json_list("Action:\n```json\n", "```", "tool_name", "parameters"),
)
NEMOTRON = SyntaxFamily("nemotron", (JsonCalls("<TOOLCALL>", "</TOOLCALL>"),), _json_list("<TOOLCALL>", "</TOOLCALL>"))
TOOL_CALLS = SyntaxFamily(
    "tool-calls",
    (JsonCalls("<tool_calls>", "</tool_calls>"),),
    _json_list("<tool_calls>", "</tool_calls>"),
)
APERTUS = SyntaxFamily(
    "apertus",
    (JsonCalls("<|tools_prefix|>", "<|tools_suffix|>", is_keyed=True),),
    ForcedCall('{"NAME": ', "}", ", ", "<|tools_prefix|>[", "]<|tools_suffix|>"),
)
GIGACHAT = SyntaxFamily(
    "gigachat", (JsonCalls("<|function_call|>"),), _json_objects("<|function_call|>", "", separator=None)
)
GIGACHAT_ROLE = SyntaxFamily(
    "gigachat-role",
    (JsonCalls("function call<|role_sep|>\n"),),
    _json_objects("function call<|role_sep|>\n", "", separator=None),
    skipped=("<|message_sep|>",),
)
GENERIC = SyntaxFamily("json", (*_GUESSES, _HERMES), _json_objects("", ""))
FOREIGN = replace(GENERIC, is_native=False)
