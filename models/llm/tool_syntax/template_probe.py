"""What a chat template wants and what it leaves out, found by trial: a few short conversations are rendered, and what
does not come out again was dropped. (llama.cpp finds out likewise.)
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from models.errors import TemplateError
from models.llm.chat.messages import ToolCall
from models.llm.tool_syntax.turns import Segment, TemplateCapabilities, Tool, Turn

_ASKED, _SAID, _RESULT, _VALUE, _OTHER_VALUE = "probe_asked", "probe_said", "probe_result", "probe_value", "probe_other"
_USER = Turn("user", (Segment(_ASKED, is_content=True),))
_ARGUMENTS = '{"place": "probe_value"}'
_MISREAD = ("{'place': 'probe_value'}", '\\"place\\"', '{{"place"')  # a Python object as text; a string encoded twice
_CALLS = (
    ToolCall("call_0123456789abcdef", "probe_tool", _ARGUMENTS),
    ToolCall("call_fedcba9876543210", "probe_tool", _ARGUMENTS.replace(_VALUE, _OTHER_VALUE)),
)
_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "probe_description",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "a place"}},
            "required": ["place"],
        },
    },
}

# Renders turns with tools for a template of these habits. Raises `TemplateError`.
Render = Callable[[Sequence[Turn], Sequence[Tool] | None, TemplateCapabilities], str]


def probe_capabilities(render: Render, source: str) -> TemplateCapabilities:
    habits = _plain_habits(render)
    text = _tried(render, [_USER], [_TOOL], habits) if "tools" in source else ""
    habits = habits._replace(renders_tools="probe_tool" in text and "probe_description" in text)
    tools = [_TOOL] if habits.renders_tools else None
    for candidate in _candidates(habits) if "tool_calls" in source else ():
        text = _tried(render, _conversation(1), tools, candidate)
        if _VALUE in text and not any(misread in text for misread in _MISREAD):
            return _with_company(render, tools, candidate._replace(renders_results=_RESULT in text))
    text = _tried(render, [_USER, Turn("assistant", (Segment(_SAID, is_content=True),)), _result(0)], tools, habits)
    return habits._replace(renders_results=_RESULT in text)


def _plain_habits(render: Render) -> TemplateCapabilities:
    """The first of these with which a question comes through; the usual ones if it comes through with none."""
    for has_empty_tools, has_typed_content in product((False, True), (False, True)):
        habits = TemplateCapabilities(has_typed_content=has_typed_content, has_empty_tools=has_empty_tools)
        if _ASKED in _tried(render, [_USER], None, habits):
            return habits
    return TemplateCapabilities()


def _candidates(habits: TemplateCapabilities) -> Iterator[TemplateCapabilities]:
    for is_short, is_mapping in product((False, True), (True, False)):
        yield habits._replace(renders_calls=True, has_short_ids=is_short, has_mapped_arguments=is_mapping)
        yield habits._replace(
            renders_calls=True, has_short_ids=is_short, has_mapped_arguments=is_mapping, has_null_content=True
        )


def _with_company(render: Render, tools: Sequence[Tool] | None, habits: TemplateCapabilities) -> TemplateCapabilities:
    """Calls come through alone. What with no content beside them, with text, or with another call?"""
    empty, null = (
        _tried(render, _conversation(1), tools, habits._replace(has_null_content=is_null)) for is_null in (False, True)
    )
    if _VALUE in null and null.count("None") == empty.count("None") and len(null) < len(empty):
        habits = habits._replace(has_null_content=True)  # "" makes an empty message of its own
    habits = habits._replace(has_text_with_calls=_VALUE in _tried(render, _conversation(1, _SAID), tools, habits))
    text = _tried(render, _conversation(2), tools, habits)
    return habits._replace(has_parallel_calls=_VALUE in text and _OTHER_VALUE in text)


def _conversation(num_calls: int, said: str = "") -> list[Turn]:
    content = (Segment(said, is_content=True),) if said else ()
    calls = Turn("assistant", content, _CALLS[:num_calls])
    return [_USER, calls, *(_result(at) for at in range(num_calls))]


def _result(at: int) -> Turn:
    return Turn("tool", (Segment(_RESULT, is_content=True),), call_id=_CALLS[at].id, name=_CALLS[at].name)


def _tried(render: Render, turns: Sequence[Turn], tools: Sequence[Tool] | None, habits: TemplateCapabilities) -> str:
    try:
        return render(turns, tools, habits)
    except TemplateError:
        return ""
