"""A conversation with tools as messages that a chat template has words for.

Templates disagree about how a call should come to them, and many know nothing of calls, results or tools.
`TemplateCapabilities` says what one of them wants; what it has no words for is put into ordinary messages, so that
nothing said is lost.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from models.llm.chat.messages import ToolCall
from models.llm.tool_syntax.calls import sent_arguments

Tool = Mapping[str, Any]  # an OpenAI function tool


class Segment(NamedTuple):
    text: str
    is_content: bool  # else control tokens named in it are meant


class Turn(NamedTuple):
    """A message whose content may hold some of the model's own scaffold."""

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
    """What a template wants, and what it leaves out."""

    has_typed_content: bool = False  # a list of parts instead of text
    has_empty_tools: bool = False  # a list without tools instead of none
    renders_tools: bool = False
    renders_results: bool = False
    renders_calls: bool = False
    has_mapped_arguments: bool = True  # instead of JSON text
    has_short_ids: bool = False  # nine letters and digits
    has_null_content: bool = False  # beside calls, instead of ""
    has_text_with_calls: bool = True
    has_parallel_calls: bool = True


class Marking(NamedTuple):
    """What to do to what messages say, and to the single words of calls and tools, on which a template may decide."""

    content: Callable[[str], str]
    word: Callable[[str], str]


Write = Callable[[Sequence[tuple[str, str]]], list[Segment]]


def adapted(
    turns: list[Turn],
    tools: Sequence[Tool] | None,
    habits: TemplateCapabilities,
    write: Write,
    *,
    tells_tools: bool = False,
) -> tuple[list[Turn], Sequence[Tool] | None]:
    """Without anything that the template would refuse or drop. `write` gives calls as the model writes them.

    With `tells_tools` not even the tools are left to the template.
    """
    if any(turn.calls or turn.role == "tool" for turn in turns):
        turns = _with_names(turns)
        if not habits.renders_calls:
            turns = [_with_written_calls(turn, write) for turn in turns]
        elif not habits.has_parallel_calls:
            turns = _one_by_one(turns)
        if not habits.renders_results:
            turns = _with_told_results(turns)
    if tools and (tells_tools or not habits.renders_tools):
        return _with_told_tools(turns, tools, write), None
    return turns, tools


def message_view(turn: Turn, habits: TemplateCapabilities, marking: Marking) -> dict[str, Any]:
    """A message as the template is given it. Absent is absent: templates ask what is defined."""
    view: dict[str, Any] = {"role": turn.role, "content": _content_view(turn, habits, marking)}
    if turn.calls:
        view["tool_calls"] = [_call_view(call, habits, marking) for call in turn.calls]
    if turn.call_id is not None:
        view["tool_call_id"] = marking.word(_fitting_id(turn.call_id, habits))
    if turn.name is not None:
        view["name"] = marking.word(turn.name)
    if turn.reasoning:  # three names for one thing; no template reads two of them
        view |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), marking.content(turn.reasoning))
    return view


def tool_view(tool: Tool, marking: Marking) -> dict[str, Any]:
    """A tool with what templates take for granted and OpenAI does not ask for."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(mapped(tool, marking.word))
    parameters = function.get("parameters") or {}
    if parameters.get("type", "object") == "object":
        parameters = {"type": "object", "properties": {}, **parameters}
    whole = {**function, "description": function.get("description") or "", "parameters": parameters}
    return dict(mapped({**tool, "type": tool.get("type", "function"), "function": whole}, marking.word))


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """With every string in it changed, keys too."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {change(key): mapped(item, change) for key, item in value.items()}
        case list() | tuple():
            return [mapped(item, change) for item in value]
        case _:
            return value


def _content_view(turn: Turn, habits: TemplateCapabilities, marking: Marking) -> object:
    text = "".join(marking.content(part.text) if part.is_content else part.text for part in turn.content)
    if turn.calls and (not text or not habits.has_text_with_calls):
        return None if habits.has_null_content else ""
    return [{"type": "text", "text": text}] if habits.has_typed_content else text


def _call_view(call: ToolCall, habits: TemplateCapabilities, marking: Marking) -> dict[str, Any]:
    arguments = sent_arguments(call.arguments) if habits.has_mapped_arguments else call.arguments or "{}"
    function = {"name": call.name, "arguments": arguments}
    view = {"id": _fitting_id(call.id, habits), "type": "function", "function": function}
    return dict(mapped(view, marking.word))


def _fitting_id(call_id: str, habits: TemplateCapabilities) -> str:
    is_short = len(call_id) == 9 and call_id.isascii() and call_id.isalnum()
    return sha256(call_id.encode()).hexdigest()[:9] if habits.has_short_ids and not is_short else call_id


def _with_names(turns: Iterable[Turn]) -> list[Turn]:
    """With the names of the tools beside their results, which only the calls have in OpenAI's form."""
    names: dict[str | None, str] = {}
    named = []
    for turn in turns:
        names |= {call.id: call.name for call in turn.calls}
        is_nameless = turn.role == "tool" and turn.name is None
        named.append(turn._replace(name=names.get(turn.call_id)) if is_nameless else turn)
    return named


def _one_by_one(turns: Sequence[Turn]) -> list[Turn]:
    """Each call in a message of its own, its result behind it."""
    single: list[Turn] = []
    results: list[Turn] = []  # that already stand behind their call
    for at, turn in enumerate(turns):
        if len(turn.calls) < 2:
            single += [turn] if turn not in results else []
            continue
        for n, call in enumerate(turn.calls):
            own = [t for t in _results_behind(turns, at) if t.call_id == call.id]
            first = turn if n == 0 else Turn(turn.role)
            single += [first._replace(calls=(call,)), *own]
            results += own
    return single


def _results_behind(turns: Sequence[Turn], at: int) -> Iterable[Turn]:
    for turn in turns[at + 1 :]:
        if turn.role != "tool":
            return
        yield turn


def _with_written_calls(turn: Turn, write: Write) -> Turn:
    if not turn.calls:
        return turn
    gap = (Segment("\n", is_content=False),) if turn.text else ()
    written = write([(call.name, call.arguments or "{}") for call in turn.calls])
    return turn._replace(content=(*turn.content, *gap, *written), calls=())


def _with_told_results(turns: Sequence[Turn]) -> list[Turn]:
    """Results as what the user says, together with what the user says next."""
    told: list[Turn] = []
    is_told = False  # the last of them
    for turn in turns:
        is_result = turn.role == "tool"
        if is_result:
            turn = Turn("user", (Segment(f"Result of {turn.name or 'the tool'}:\n{turn.text}", is_content=True),))
        if told and is_told and turn.role == "user":
            turn = Turn("user", (*told.pop().content, Segment("\n\n", is_content=False), *turn.content))
        told.append(turn)
        is_told = is_result
    return told


def _with_told_tools(turns: list[Turn], tools: Sequence[Tool], write: Write) -> list[Turn]:
    """The tools, and how to call one, in the system message."""
    listed = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    example = "".join(part.text for part in write([("tool_name", '{"parameter": "value"}')]))
    note = (
        f"You can call these tools:\n\n{listed}\n\n"
        f"To call one, answer with its name and its arguments in this form and with nothing else:\n{example}"
    )
    if turns and turns[0].role == "system":
        whole = Segment(f"{turns[0].text}\n\n{note}", is_content=True)
        return [turns[0]._replace(content=(whole,)), *turns[1:]]
    return [Turn("system", (Segment(note, is_content=True),)), *turns]
