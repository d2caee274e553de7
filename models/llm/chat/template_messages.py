"""A conversation as messages that a chat template can render.

Templates disagree about the shape of a call, and many know nothing of calls, results or tools. `TemplateCapabilities`
says what one template renders; the rest is written into ordinary messages, so that nothing of a conversation is lost.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from models.llm.chat.messages import ToolCall
from models.llm.chat.prompt import Segment
from models.llm.chat.tool_config import ToolDefinition
from models.llm.tool_syntax.calls import parse_sent_arguments


class TemplateMessage(NamedTuple):
    """A message whose content may include scaffold of the model's own, such as calls as the model writes them."""

    role: str
    content: tuple[Segment, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content)


class TemplateCapabilities(NamedTuple):
    """The parts of a conversation that a template renders, and the shape in which it expects them."""

    has_typed_content: bool = False  # a list of parts instead of text
    has_empty_tools: bool = False  # an empty list of tools instead of none
    renders_tools: bool = False
    renders_results: bool = False
    renders_calls: bool = False
    has_mapped_arguments: bool = True  # an object instead of JSON text
    has_short_ids: bool = False  # nine letters and digits
    has_null_content: bool = False  # beside calls, instead of ""
    has_text_with_calls: bool = True
    has_parallel_calls: bool = True


class Marking(NamedTuple):
    """Changes to the texts of messages and to the single words of calls and tools, on which a template may decide."""

    content: Callable[[str], str]
    word: Callable[[str], str]


WriteCalls = Callable[[Sequence[tuple[str, str]]], list[Segment]]  # calls as the model writes them


def adapt_messages(
    messages: list[TemplateMessage],
    tools: Sequence[ToolDefinition] | None,
    capabilities: TemplateCapabilities,
    write_calls: WriteCalls,
    *,
    describes_tools: bool = False,
) -> tuple[list[TemplateMessage], Sequence[ToolDefinition] | None]:
    """Return the conversation without anything that the template would refuse or drop.

    With `describes_tools` the tools are described in the system message even if the template renders tools.
    """
    if any(message.calls or message.role == "tool" for message in messages):
        messages = _with_result_names(messages)
        if not capabilities.renders_calls:
            messages = [_with_written_calls(message, write_calls) for message in messages]
        elif not capabilities.has_parallel_calls:
            messages = _with_single_calls(messages)
        if not capabilities.renders_results:
            messages = _with_results_of_user(messages)
    if tools and (describes_tools or not capabilities.renders_tools):
        return _with_tool_descriptions(messages, tools, write_calls), None
    return messages, tools


def view_message(message: TemplateMessage, capabilities: TemplateCapabilities, marking: Marking) -> dict[str, Any]:
    """Return the message as the template's variable. Absent fields are left out: templates ask what is defined."""
    view: dict[str, Any] = {"role": message.role, "content": _view_content(message, capabilities, marking)}
    if message.calls:
        view["tool_calls"] = [_view_call(call, capabilities, marking) for call in message.calls]
    if message.call_id is not None:
        view["tool_call_id"] = marking.word(_call_id(message.call_id, capabilities))
    if message.name is not None:
        view["name"] = marking.word(message.name)
    if message.reasoning:  # three names for one thing; no template reads two of them
        view |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), marking.content(message.reasoning))
    return view


def view_tool(tool: ToolDefinition, marking: Marking) -> dict[str, Any]:
    """Return the tool with the fields that templates take for granted and OpenAI does not require."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(map_strings(tool, marking.word))
    parameters = function.get("parameters") or {}
    if parameters.get("type", "object") == "object":
        parameters = {"type": "object", "properties": {}, **parameters}
    whole = {**function, "description": function.get("description") or "", "parameters": parameters}
    return dict(map_strings({**tool, "type": tool.get("type", "function"), "function": whole}, marking.word))


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Return the value with every string in it changed, keys too."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {change(key): map_strings(item, change) for key, item in value.items()}
        case list() | tuple():
            return [map_strings(item, change) for item in value]
        case _:
            return value


def _view_content(message: TemplateMessage, capabilities: TemplateCapabilities, marking: Marking) -> object:
    text = "".join(marking.content(part.text) if part.is_content else part.text for part in message.content)
    if message.calls and (not text or not capabilities.has_text_with_calls):
        return None if capabilities.has_null_content else ""
    return [{"type": "text", "text": text}] if capabilities.has_typed_content else text


def _view_call(call: ToolCall, capabilities: TemplateCapabilities, marking: Marking) -> dict[str, Any]:
    is_mapping = capabilities.has_mapped_arguments
    arguments = parse_sent_arguments(call.arguments) if is_mapping else call.arguments or "{}"
    function = {"name": call.name, "arguments": arguments}
    view = {"id": _call_id(call.id, capabilities), "type": "function", "function": function}
    return dict(map_strings(view, marking.word))


def _call_id(call_id: str, capabilities: TemplateCapabilities) -> str:
    is_short = len(call_id) == 9 and call_id.isascii() and call_id.isalnum()
    return sha256(call_id.encode()).hexdigest()[:9] if capabilities.has_short_ids and not is_short else call_id


def _with_result_names(messages: Iterable[TemplateMessage]) -> list[TemplateMessage]:
    """Return the messages with each result named by its tool, which in OpenAI's form only the calls are."""
    names: dict[str | None, str] = {}
    with_names = []
    for message in messages:
        names |= {call.id: call.name for call in message.calls}
        is_nameless = message.role == "tool" and message.name is None
        with_names.append(message._replace(name=names.get(message.call_id)) if is_nameless else message)
    return with_names


def _with_single_calls(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Return the messages with each call in a message of its own, followed by its result."""
    single: list[TemplateMessage] = []
    placed_results: list[TemplateMessage] = []
    for at, message in enumerate(messages):
        if len(message.calls) < 2:
            single += [message] if message not in placed_results else []
            continue
        for number, call in enumerate(message.calls):
            results = [result for result in _results_after(messages, at) if result.call_id == call.id]
            first = message if number == 0 else TemplateMessage(message.role)
            single += [first._replace(calls=(call,)), *results]
            placed_results += results
    return single


def _results_after(messages: Sequence[TemplateMessage], at: int) -> Iterable[TemplateMessage]:
    for message in messages[at + 1 :]:
        if message.role != "tool":
            return
        yield message


def _with_written_calls(message: TemplateMessage, write_calls: WriteCalls) -> TemplateMessage:
    if not message.calls:
        return message
    gap = (Segment("\n", is_content=False),) if message.text else ()
    calls = write_calls([(call.name, call.arguments or "{}") for call in message.calls])
    return message._replace(content=(*message.content, *gap, *calls), calls=())


def _with_results_of_user(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Return the messages with results as the user's, joined with what the user says next."""
    merged: list[TemplateMessage] = []
    is_last_result = False
    for message in messages:
        is_result = message.role == "tool"
        if is_result:
            text = f"Result of {message.name or 'the tool'}:\n{message.text}"
            message = TemplateMessage("user", (Segment(text, is_content=True),))
        if merged and is_last_result and message.role == "user":
            content = (*merged.pop().content, Segment("\n\n", is_content=False), *message.content)
            message = TemplateMessage("user", content)
        merged.append(message)
        is_last_result = is_result
    return merged


def _with_tool_descriptions(
    messages: list[TemplateMessage], tools: Sequence[ToolDefinition], write_calls: WriteCalls
) -> list[TemplateMessage]:
    """Return the messages with the tools, and how to call one, in the system message."""
    descriptions = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    example = "".join(part.text for part in write_calls([("tool_name", '{"parameter": "value"}')]))
    note = (
        f"You can call these tools:\n\n{descriptions}\n\n"
        f"To call one, answer with its name and its arguments in this form and with nothing else:\n{example}"
    )
    if messages and messages[0].role == "system":
        whole = Segment(f"{messages[0].text}\n\n{note}", is_content=True)
        return [messages[0]._replace(content=(whole,)), *messages[1:]]
    return [TemplateMessage("system", (Segment(note, is_content=True),)), *messages]
