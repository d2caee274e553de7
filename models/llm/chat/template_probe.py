"""The capabilities of a chat template, found by trial.

A few short conversations are rendered; whatever does not come out again, the template drops. (llama.cpp probes
templates in the same way.)
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from models.errors import TemplateError
from models.llm.chat.messages import ToolCall
from models.llm.chat.prompt import Segment
from models.llm.chat.template_messages import TemplateCapabilities, TemplateMessage
from models.llm.chat.tool_config import ToolDefinition

_QUESTION, _ANSWER, _RESULT = "probe_asked", "probe_said", "probe_result"
_VALUE, _OTHER_VALUE = "probe_value", "probe_other"
_USER = TemplateMessage("user", (Segment(_QUESTION, is_content=True),))
_ASSISTANT = TemplateMessage("assistant", (Segment(_ANSWER, is_content=True),))
_ARGUMENTS = '{"place": "probe_value"}'
_MISREAD = ("{'place': 'probe_value'}", '\\"place\\"', '{{"place"')  # a Python object as text; a string encoded twice
_CALLS = (
    ToolCall("call_0123456789abcdef", "probe_tool", _ARGUMENTS),
    ToolCall("call_fedcba9876543210", "probe_tool", _ARGUMENTS.replace(_VALUE, _OTHER_VALUE)),
)
_TOOL: ToolDefinition = {
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

# Renders messages and tools for a template with these capabilities. Raises `TemplateError`.
Render = Callable[[Sequence[TemplateMessage], Sequence[ToolDefinition] | None, TemplateCapabilities], str]


def probe_capabilities(render: Render, source: str) -> TemplateCapabilities:
    """Return what the template renders. `source` says cheaply what it cannot know of."""
    capabilities = _probe_content(render)
    text = _try_render(render, [_USER], [_TOOL], capabilities) if "tools" in source else ""
    capabilities = capabilities._replace(renders_tools="probe_tool" in text and "probe_description" in text)
    tools = [_TOOL] if capabilities.renders_tools else None
    for candidate in _call_shapes(capabilities) if "tool_calls" in source else ():
        text = _try_render(render, _conversation(1), tools, candidate)
        if _VALUE in text and not any(misread in text for misread in _MISREAD):
            return _probe_company(render, tools, candidate._replace(renders_results=_RESULT in text))
    text = _try_render(render, [_USER, _ASSISTANT, _result(0)], tools, capabilities)
    return capabilities._replace(renders_results=_RESULT in text)


def _probe_content(render: Render) -> TemplateCapabilities:
    """Return the first capabilities with which a question comes through; the usual ones if it never does."""
    for has_empty_tools, has_typed_content in product((False, True), (False, True)):
        capabilities = TemplateCapabilities(has_typed_content=has_typed_content, has_empty_tools=has_empty_tools)
        if _QUESTION in _try_render(render, [_USER], None, capabilities):
            return capabilities
    return TemplateCapabilities()


def _call_shapes(capabilities: TemplateCapabilities) -> Iterator[TemplateCapabilities]:
    """Yield the shapes in which a template may expect calls, the usual ones first."""
    for is_short, is_mapping in product((False, True), (True, False)):
        shape = capabilities._replace(renders_calls=True, has_short_ids=is_short, has_mapped_arguments=is_mapping)
        yield shape
        yield shape._replace(has_null_content=True)


def _probe_company(
    render: Render, tools: Sequence[ToolDefinition] | None, capabilities: TemplateCapabilities
) -> TemplateCapabilities:
    """Return what else may stand beside a call, which is known to come through alone: no content, text, more calls."""
    empty, null = (
        _try_render(render, _conversation(1), tools, capabilities._replace(has_null_content=is_null))
        for is_null in (False, True)
    )
    if _VALUE in null and null.count("None") == empty.count("None") and len(null) < len(empty):
        capabilities = capabilities._replace(has_null_content=True)  # "" makes an empty message of its own
    text = _try_render(render, _conversation(1, _ANSWER), tools, capabilities)
    capabilities = capabilities._replace(has_text_with_calls=_VALUE in text)
    text = _try_render(render, _conversation(2), tools, capabilities)
    return capabilities._replace(has_parallel_calls=_VALUE in text and _OTHER_VALUE in text)


def _conversation(num_calls: int, answer: str = "") -> list[TemplateMessage]:
    content = (Segment(answer, is_content=True),) if answer else ()
    calls = TemplateMessage("assistant", content, _CALLS[:num_calls])
    return [_USER, calls, *(_result(at) for at in range(num_calls))]


def _result(at: int) -> TemplateMessage:
    call = _CALLS[at]
    return TemplateMessage("tool", (Segment(_RESULT, is_content=True),), call_id=call.id, name=call.name)


def _try_render(
    render: Render,
    messages: Sequence[TemplateMessage],
    tools: Sequence[ToolDefinition] | None,
    capabilities: TemplateCapabilities,
) -> str:
    """Return the rendered text, "" where the template refuses."""
    try:
        return render(messages, tools, capabilities)
    except TemplateError:
        return ""
