"""The families of models that write calls and reasoning alike, and what in a chat template's source tells them apart.

Nothing but the source decides: the name of a model says little about how it was trained to call tools.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from models.llm.tool_syntax.calls import CallFormat, ForcedCall
from models.llm.tool_syntax.json_calls import JsonCalls
from models.llm.tool_syntax.python_calls import PythonCalls
from models.llm.tool_syntax.tagged_calls import Parameter, TaggedCalls
from models.llm.tool_syntax.values import GEMMA


class Thinking(NamedTuple):
    begin: str
    end: str
    is_anywhere: bool = False  # else in front of the answer only, where no user's text can be taken for it


@dataclass(frozen=True)
class Family:
    """`formats` are tried in turn where several begin alike. `skipped` is scaffold in the model's own text."""

    name: str
    formats: tuple[CallFormat, ...]
    forced: ForcedCall
    skipped: tuple[str, ...] = ()
    lead: str = ""  # is scaffold at the start of an answer, where the prompt's own end belongs to it
    thinking: Thinking | None = None
    is_native: bool = True  # the template speaks of tools, and the model has seen this form
    is_pythonic: bool = False  # what was called before is written in Python, too
    before_answer: str = ""  # scaffold in front of an answer that is text
    after_reasoning: str = ""  # scaffold between reasoning and what follows it

    @property
    def trigger(self) -> str:
        """The beginning of a call, where the model's own calls are in the forced form: their arguments JSON."""
        form = self.formats[0]
        is_json = isinstance(form, JsonCalls) or (isinstance(form, TaggedCalls) and form.is_json)
        start = self.forced.opening + self.forced.begin
        return max((b for b in form.begins if is_json and start.startswith(b)), key=len, default="")


def _json(opening: str, closing: str, arguments: str = "arguments", *, separator: str | None = "\n") -> ForcedCall:
    """One object for each call."""
    return ForcedCall(f'{opening}{{"name": "NAME", "{arguments}": ', "}" + closing, separator)


def _list(opening: str, closing: str, name: str = "name", arguments: str = "arguments") -> ForcedCall:
    return ForcedCall(f'{{"{name}": "NAME", "{arguments}": ', "}", ", ", f"{opening}[", f"]{closing}")


_HERMES = JsonCalls("<tool_call>", "</tool_call>")
_GUESSES = (JsonCalls(is_guess=True), JsonCalls("```json", "```", is_guess=True))

HERMES = Family("hermes", (_HERMES,), _json("<tool_call>\n", "\n</tool_call>"))

_FUNCTION = TaggedCalls(
    ("<function=",),
    ("</function>",),
    ">",
    Parameter("<parameter=", ">", "</parameter>", is_padded=True),
    ("<tool_call>",),
    "</tool_call>",
)
QWEN_CODER = Family(
    "qwen-coder",
    (_FUNCTION, _HERMES),
    ForcedCall("<tool_call>\n<function=NAME>\n", "\n</function>\n</tool_call>", "\n"),
)
SEED = Family(
    "seed",
    (
        replace(
            _FUNCTION,
            parameter=Parameter("<parameter=", ">", "</parameter>"),
            section=("<seed:tool_call>",),
            section_end="</seed:tool_call>",
        ),
    ),
    ForcedCall("<seed:tool_call>\n<function=NAME>\n", "\n</function>\n</seed:tool_call>", "\n"),
)
FUNCTIONARY = Family(
    "functionary",
    (TaggedCalls(("<function=",), ("</function>",), ">"),),
    ForcedCall("<function=NAME>", "</function>", ""),
)
FUNCTIONARY_RECIPIENTS = Family(
    "functionary-recipients",
    (TaggedCalls((">>>",), (), "\n", is_open_at_start=True),),
    ForcedCall("NAME\n", "", ">>>"),
    skipped=(">>>all\n",),
    lead="all\n",
)


def _glm(mark: str) -> Family:
    begin, end = f"<tool_call{mark}>", f"</tool_call{mark}>"
    parameter = Parameter(
        f"<arg_key{mark}>", f"</arg_key{mark}>", f"</arg_value{mark}>", value_begin=f"<arg_value{mark}>"
    )
    if not mark:
        calls = TaggedCalls((begin,), (end,), parameter=parameter)
        return Family("glm", (calls, _HERMES), ForcedCall(f"{begin}NAME\n", f"\n{end}", "\n"))
    section, section_end, separator = f"<tool_calls{mark}>", f"</tool_calls{mark}>", f"<tool_sep{mark}>"
    return Family(
        "hunyuan",
        (TaggedCalls((begin,), (end,), separator, parameter, (section,), section_end),),
        ForcedCall(f"{begin}NAME{separator}\n", f"\n{end}", "\n", f"{section}\n", f"\n{section_end}"),
        thinking=Thinking(f"<think{mark}>", f"</think{mark}>"),
    )


def _invokes(
    name: str, mark: str, section: str, parameter: str, type_end: str = "", header: tuple[str, ...] = ()
) -> Family:
    """`<invoke name="…">` with a parameter tag for each argument, in a section; `mark` stands before the tag's name."""
    key_end = '" string="' if type_end else '">'
    calls = TaggedCalls(
        (f'<{mark}invoke name="',),
        (f"</{mark}invoke>",),
        '">',
        Parameter(f'<{mark}{parameter} name="', key_end, f"</{mark}{parameter}>", type_end=type_end),
        (*header, f"<{mark}{section}>"),
        f"</{mark}{section}>",
    )
    begin, end = f'<{mark}invoke name="NAME">\n', f"\n</{mark}invoke>"
    forced = ForcedCall(begin, end, "\n", f"<{mark}{section}>\n", f"\n</{mark}{section}>")
    return Family(name, (calls,), forced)


_MINIMAX_2 = _invokes("minimax", "", "minimax:tool_call", "parameter")
_M3 = "]<]minimax[>["
MINIMAX_3 = Family(
    "minimax-3",
    (
        TaggedCalls(
            (f'{_M3}<invoke name="',),
            (f"{_M3}</invoke>",),
            '">',
            Parameter(f"{_M3}<", ">", f"{_M3}</{{key}}>", is_flat=True),
            (f"{_M3}<tool_call>",),
            f"{_M3}</tool_call>",
        ),
    ),
    ForcedCall(f'{_M3}<invoke name="NAME">', f"{_M3}</invoke>", "\n", f"{_M3}<tool_call>\n", f"\n{_M3}</tool_call>"),
)
MINICPM = Family(
    "minicpm",
    (
        TaggedCalls(
            ('<function name="',), ("</function>",), '">', Parameter('<param name="', '">', "</param>", has_cdata=True)
        ),
    ),
    ForcedCall('<function name="NAME">', "</function>", "\n"),
)
_ATEM = _invokes("atem", "atem:", "function_calls", "parameter", header=("to=",))
ATEM = replace(
    _ATEM,
    skipped=("<|start|>assistant", "to=user<|message|>", "<|eom|>", "<|eot|>"),
    thinking=Thinking("to=self<|message|>", "<|eom|>", is_anywhere=True),
    forced=ForcedCall(
        ' to=NAME<|message|><atem:function_calls>\n<atem:invoke name="NAME">\n',
        "\n</atem:invoke>\n</atem:function_calls>",
        "<|eom|><|start|>assistant",
    ),
)

MISTRAL_LIST = Family("mistral", (JsonCalls("[TOOL_CALLS]"),), _list("[TOOL_CALLS]", ""))
MISTRAL = Family(
    "mistral-named",
    (TaggedCalls(("[TOOL_CALLS]",), (), "[ARGS]"), JsonCalls("[TOOL_CALLS]")),
    ForcedCall("[TOOL_CALLS]NAME[ARGS]", "", ""),
)
_DEEPSEEK_CALL, _DEEPSEEK_CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_DEEPSEEK_SECTION, _DEEPSEEK_SECTION_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
DEEPSEEK_R1 = Family(
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
DEEPSEEK_V3_1 = Family(
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
KIMI = Family(
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
KIMI_3 = Family(
    "kimi-3",
    (
        TaggedCalls(
            ('<|open|>call tool="',),
            ("<|close|>call<|sep|>",),
            '"<|sep|>',
            Parameter('<|open|>argument key="', '" type="', "<|close|>argument<|sep|>", type_end='"<|sep|>'),
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
    thinking=Thinking("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
)
SOLAR = Family(
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
    thinking=Thinking("<|think|>", "<|end|>", is_anywhere=True),
)
# OpenAI's harmony: every message names its channel, and a call its recipient, before or behind it.
HARMONY = Family(
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
    thinking=Thinking("<|channel|>analysis<|message|>", "<|end|>", is_anywhere=True),
    before_answer="<|channel|>final<|message|>",
    after_reasoning="<|start|>assistant",
)
LFM2 = Family(
    "lfm2",
    (
        PythonCalls("<|tool_call_start|>", "<|tool_call_end|>"),
        JsonCalls("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    _list("<|tool_call_start|>", "<|tool_call_end|>"),
    is_pythonic=True,
)
GEMMA_4 = Family(
    "gemma-4",
    (TaggedCalls(("<|tool_call>call:",), ("<tool_call|>",), dialect=GEMMA),),
    ForcedCall("<|tool_call>call:NAME", "<tool_call|>", ""),
)
LLAMA_3 = Family(
    "llama-3",
    (JsonCalls("<|python_tag|>"), PythonCalls("<|python_tag|>"), *_GUESSES, PythonCalls()),
    _json("", "", "parameters", separator=None),
)
GRANITE = Family(
    "granite",
    (JsonCalls("<|tool_call|>", "<|/tool_call|>"), _HERMES),
    _list("<|tool_call|>", ""),
)
PHI = Family(
    "phi",
    (JsonCalls("<|tool_call|>", "<|/tool_call|>"), JsonCalls("functools")),
    _list("<|tool_call|>", "<|/tool_call|>"),
)
FUNCTOOLS = Family("functools", (JsonCalls("functools"),), _list(" functools", ""))
COMMAND_R7B = Family(
    "command-r7b",
    (JsonCalls("<|START_ACTION|>", "<|END_ACTION|>"),),
    _list("<|START_ACTION|>", "<|END_ACTION|>", "tool_name", "parameters"),
)
COMMAND_R = Family(
    "command-r",
    (JsonCalls("Action:\n```json\n", "```"),),
    _list("Action:\n```json\n", "```", "tool_name", "parameters"),
)
NEMOTRON = Family("nemotron", (JsonCalls("<TOOLCALL>", "</TOOLCALL>"),), _list("<TOOLCALL>", "</TOOLCALL>"))
TOOL_CALLS = Family(
    "tool-calls",
    (JsonCalls("<tool_calls>", "</tool_calls>"),),
    _list("<tool_calls>", "</tool_calls>"),
)
APERTUS = Family(
    "apertus",
    (JsonCalls("<|tools_prefix|>", "<|tools_suffix|>", is_keyed=True),),
    ForcedCall('{"NAME": ', "}", ", ", "<|tools_prefix|>[", "]<|tools_suffix|>"),
)
GIGACHAT = Family("gigachat", (JsonCalls("<|function_call|>"),), _json("<|function_call|>", "", separator=None))
GIGACHAT_ROLE = Family(
    "gigachat-role",
    (JsonCalls("function call<|role_sep|>\n"),),
    _json("function call<|role_sep|>\n", "", separator=None),
    skipped=("<|message_sep|>",),
)
GENERIC = Family("json", (*_GUESSES, _HERMES), _json("", ""))
FOREIGN = replace(GENERIC, is_native=False)

# The first whose signs all stand in the source. `\\n` is a line break inside a template's string.
_FAMILIES: tuple[tuple[tuple[str, ...], Family], ...] = (
    (("<|channel|>", "<|message|>"), HARMONY),
    (("<atem:function_calls>",), ATEM),
    (("<|open|>", "<|sep|>"), KIMI_3),
    (("<|tool_call:begin|>",), SOLAR),
    (("｜DSML｜", "function_calls>"), DEEPSEEK_V3_2),
    (("｜DSML｜",), DEEPSEEK_V4),
    (("<｜tool▁call▁begin｜>", "```json"), DEEPSEEK_R1),
    (("<｜tool▁call▁begin｜>",), DEEPSEEK_V3_1),
    (("<|tool_call_begin|>",), KIMI),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL),
    (("[TOOL_CALLS]",), MISTRAL_LIST),
    (("<|tool_call_start|>",), LFM2),
    (("<|tool_list_start|>",), LFM2),
    (("List of tools: [",), LFM2),
    (("<|tool_call>call:",), GEMMA_4),
    (("<|/tool|>",), PHI),
    (("<|tool_call|>",), GRANITE),
    (("<|START_ACTION|>",), COMMAND_R7B),
    (("Action:\\n```json",), COMMAND_R),
    (("<TOOLCALL>",), NEMOTRON),
    (("<|tools_prefix|>",), APERTUS),
    (("<|function_call|>",), GIGACHAT),
    (("'function call'", "<|role_sep|>"), GIGACHAT_ROLE),
    ((">>>all",), FUNCTIONARY_RECIPIENTS),
    (("functools",), FUNCTOOLS),
    (("]<]minimax[>[",), MINIMAX_3),
    (("<minimax:tool_call>",), _MINIMAX_2),
    (("<seed:tool_call>",), SEED),
    (('<function name="',), MINICPM),
    (("<tool_sep{}>", "':opensource'"), _glm(":opensource")),
    (("<arg_key>",), _glm("")),
    (("<function=", "<parameter="), QWEN_CODER),
    (("<function=",), FUNCTIONARY),
    (("<tool_calls>",), TOOL_CALLS),
    (("<tool_call>",), HERMES),
    (('"parameters": ', "<|start_header_id|>"), LLAMA_3),
    (("<|python_tag|>",), LLAMA_3),
    (("tools",), GENERIC),
)

_THINKING: tuple[tuple[str, Thinking], ...] = (
    ("<seed:think>", Thinking("<seed:think>", "</seed:think>")),
    ("<mm:think>", Thinking("<mm:think>", "</mm:think>")),
    ("[THINK]", Thinking("[THINK]", "[/THINK]")),
    ("<|START_THINKING|>", Thinking("<|START_THINKING|>", "<|END_THINKING|>")),
    ("<|inner_prefix|>", Thinking("<|inner_prefix|>", "<|inner_suffix|>")),
    ("<|channel>thought", Thinking("<|channel>thought", "<channel|>")),
    ("[BEGIN FINAL RESPONSE]", Thinking("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]")),
    ("</thinking>", Thinking("<thinking>", "</thinking>")),
    ("</think>", Thinking("<think>", "</think>")),
)


def family_of(source: str) -> Family:
    for signs, family in _FAMILIES:
        if all(sign in source for sign in signs):
            return family
    return FOREIGN


def thinking_of(source: str, family: Family) -> Thinking | None:
    return family.thinking or next((thinking for sign, thinking in _THINKING if sign in source), None)
