"""/v1/responses: what a request asks for, with the conversation it goes on with."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from models.llm.chat.messages import ChatMessage, ToolCall
from models.llm.chat.tool_config import ToolConfig
from models.llm.constraints.forms import JsonObject, JsonSchema
from server.api.responses.wire import Item, Part, ResponseRequest, Tool, ToolChoice
from server.api.shared.forms import parse_json_schema, reasoning_options
from server.api.shared.rag import rag_options
from server.api.shared.rag_wire import RagRequest
from server.api.shared.tools import describe_tools, tool_config_for_mode, tool_config_for_names
from server.api.vector_stores.reply import filter_of
from server.api.vector_stores.wire import FilterRequest
from server.errors import RequestError
from server.files.filters import Filter
from server.files.records import new_id
from server.generation.request import GenerationRequest

LOGPROBS: Final = "message.output_text.logprobs"
RESULTS: Final = "file_search_call.results"
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SAMPLING: Final = ("temperature", "top_p", "top_k", "seed")
_KINDS: Final = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_HOSTED: Final = ("file_search_call",)  # what the server did itself; its answer is what counts


class FileSearch(NamedTuple):
    """The vector stores to search."""

    store_ids: Sequence[str]
    filter: Filter | None = None
    most: int | None = None
    least_score: float = 0.0


def with_headers(data: ResponseRequest, headers: Mapping[str, str]) -> ResponseRequest:
    """With what headers say of grounding in the body, so that it can be kept. Raises `RequestError`."""
    told = rag_options(data.rag, headers)
    rag = RagRequest(
        collections=list(told.collections) if told.collections is not None else None,
        top_k=told.top_k,
        filters=data.rag.filters if data.rag else None,
        mode=told.mode,
        citations=told.citations,
    )
    return msgspec.structs.replace(data, rag=rag)


def items_of(data: ResponseRequest) -> list[Item]:
    """The input, in one form, each item under an id."""
    if data.input is None:
        return []
    asked = [Item(role="user", content=data.input)] if isinstance(data.input, str) else data.input
    return [_named(item) for item in asked]


def references(items: Sequence[Item]) -> list[str]:
    """Ids of items that were told before."""
    return [item.id or "" for item in items if item.type == "item_reference"]


def _named(item: Item) -> Item:
    if item.type == "item_reference":
        return item
    kind = item.type or "message"
    content = item.content
    if kind == "message" and isinstance(content, str):
        content = [Part("output_text" if item.role == "assistant" else "input_text", content)]
    id = item.id or new_id(_KINDS.get(kind, "item")).replace("-", "_")
    return msgspec.structs.replace(item, type=kind, id=id, content=content)


def generation_request(
    data: ResponseRequest,
    items: Sequence[Item],
    history: Sequence[Item] = (),
    headers: Mapping[str, str] = MappingProxyType({}),
) -> GenerationRequest:
    """`items` are the request's own, `history` what they go on with. Raises `RequestError` for what cannot be done,
    with the path of the field, or the header, that asks for it."""
    _refuse_unsupported(data)
    messages = list(_messages(history, "previous_response_id")) + list(_messages(items, "input"))
    messages = _joined(messages)
    if not messages:
        raise RequestError("There is nothing to answer.", "input", "missing_required_parameter")
    if data.instructions:
        messages.insert(0, ChatMessage.of_text("system", data.instructions))
    search = file_search_of(data)
    rag = rag_options(data.rag, headers)
    if search is not None:
        rag = msgspec.structs.replace(rag, top_k=search.most or rag.top_k, least_score=search.least_score)
    return GenerationRequest(
        messages=messages,
        model=data.model,
        sampling=_sampling(data),
        max_tokens=data.max_output_tokens,
        tool_config=_toolbox(data),
        form=_form(data),
        options=reasoning_options(data.reasoning.effort if data.reasoning else None),
        rag=rag,
    )


def _refuse_unsupported(data: ResponseRequest) -> None:
    refused = {
        "conversation": data.conversation is not None and "Conversations are not kept; use previous_response_id.",
        "prompt": data.prompt is not None and "There are no stored prompts; send the text.",
        "background": data.background and data.store is False and "What runs in the background must be stored.",
    }
    for name, message in refused.items():
        if message:
            raise RequestError(str(message), name)


def _sampling(data: ResponseRequest) -> dict[str, Any]:
    chosen = {name: value for name in _SAMPLING if (value := getattr(data, name)) is not None}
    if has_logprobs(data):
        chosen["num_logprobs"] = data.top_logprobs or 0
    return chosen


def has_logprobs(data: ResponseRequest) -> bool:
    return bool(data.top_logprobs) or LOGPROBS in (data.include or ())


def _form(data: ResponseRequest) -> JsonSchema | JsonObject | None:
    form = data.text.format if data.text else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return JsonObject()
    if form.schema is None:
        raise RequestError("Its schema is missing.", "text.format.schema", "missing_required_parameter")
    return parse_json_schema(form.schema, "text.format.schema")


# Messages


def _messages(items: Sequence[Item], where: str) -> Iterator[ChatMessage]:
    """One of each item, so that a model's reasoning, text and calls are several; see `_joined`."""
    for at, item in enumerate(items):
        path = f"{where}[{at}]"
        match item.type or "message":
            case "message":
                yield _message(item, path)
            case "function_call":
                if item.name is None:
                    raise RequestError("A call needs a name.", f"{path}.name", "missing_required_parameter")
                arguments = item.arguments
                if isinstance(arguments, dict):
                    arguments = json.dumps(arguments, ensure_ascii=False)
                call = ToolCall(item.call_id or item.id or "", item.name, arguments or "{}")
                yield ChatMessage.of_text("assistant", tool_calls=(call,))
            case "function_call_output":
                yield ChatMessage.of_text("tool", _text(item.output, f"{path}.output"), tool_call_id=item.call_id)
            case "reasoning":
                parts = item.summary or (item.content if isinstance(item.content, list) else None) or ()
                told = "\n\n".join(part.text or "" for part in parts)
                if told:
                    yield ChatMessage.of_text("assistant", reasoning=told)
            case kind if kind in _HOSTED:
                continue
            case kind:
                raise RequestError(f"An item of type {kind!r} cannot be used.", f"{path}.type")


def _message(item: Item, path: str) -> ChatMessage:
    role = _ROLES.get(item.role or "")
    if role is None:
        raise RequestError(f"{item.role!r} is no role; there are: {', '.join(_ROLES)}.", f"{path}.role")
    return ChatMessage.of_text(
        cast(Literal["system", "user", "assistant"], role), _text(item.content, f"{path}.content")
    )


def _text(content: str | list[Part] | None, path: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for at, part in enumerate(content):
        text = part.refusal if part.type == "refusal" else part.text
        if text is None:
            reason = f"This model reads text only; a part of type {part.type!r} cannot be used."
            raise RequestError(reason, f"{path}[{at}]")
        texts.append(text)
    return "\n".join(texts)


def _joined(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """What a model reasoned, said and called in one turn is one message, as a template knows it."""
    joined: list[ChatMessage] = []
    for message in messages:
        before = joined[-1] if joined else None
        if before is not None and _goes_on(before, message):
            joined[-1] = msgspec.structs.replace(
                before,
                content=before.content + message.content,
                tool_calls=before.tool_calls + message.tool_calls,
                reasoning=before.reasoning or message.reasoning,
            )
        else:
            joined.append(message)
    return joined


def _goes_on(before: ChatMessage, message: ChatMessage) -> bool:
    """Reasoning, then text, then calls."""
    if not before.role == message.role == "assistant":
        return False
    if message.reasoning is not None:
        return False
    return bool(message.tool_calls) or not (before.content or before.tool_calls)


# Tools


def file_search_of(data: ResponseRequest) -> FileSearch | None:
    """None where none is asked for, or no tool may be used. Raises `RequestError`."""
    found = [(at, tool) for at, tool in enumerate(data.tools or ()) if tool.type == "file_search"]
    if not found or data.tool_choice == "none":
        return None
    if len(found) > 1:
        raise RequestError("There are two file searches; name all stores in one.", f"tools[{found[1][0]}]")
    at, tool = found[0]
    if not tool.vector_store_ids:
        where = f"tools[{at}].vector_store_ids"
        raise RequestError("Name the vector stores to search.", where, "missing_required_parameter")
    ranking = tool.ranking_options
    return FileSearch(
        tool.vector_store_ids,
        _filter(tool.filters, f"tools[{at}].filters"),
        tool.max_num_results,
        (ranking.score_threshold if ranking else None) or 0.0,
    )


def _filter(told: Any, where: str) -> Filter | None:
    try:
        return filter_of(msgspec.convert(told, FilterRequest | None), where)
    except msgspec.ValidationError as error:
        raise RequestError(f"{error}.", where, "invalid_value") from None


def _toolbox(data: ResponseRequest) -> ToolConfig | None:
    tools = describe_tools([_function(at, tool) for at, tool in _functions(data)], "tools[{}].name")
    choice, is_parallel = data.tool_choice, data.parallel_tool_calls is not False
    if choice is None or isinstance(choice, str):
        has_search = any(tool.type == "file_search" for tool in data.tools or ())
        if choice in ("required", "any") and not tools and has_search:
            return None  # it is searched in any case
        return tool_config_for_mode(tools, choice or "auto", is_parallel, "tool_choice")
    return _by_choice(tools, choice, is_parallel)


def _by_choice(tools: tuple[dict[str, Any], ...], choice: ToolChoice, is_parallel: bool) -> ToolConfig | None:
    match choice.type:
        case "function":
            return tool_config_for_names(tools, "required", [choice.name or ""], False, "tool_choice.name")
        case "allowed_tools":
            names = [tool.name or "" for tool in choice.tools or () if tool.type == "function"]
            mode = choice.mode or "auto"
            return tool_config_for_names(tools, mode, names, is_parallel, "tool_choice.tools") if names else None
        case "file_search":
            return tool_config_for_mode(tools, "auto", is_parallel, "tool_choice")
    raise RequestError(f"{choice.type!r} is no choice of tools.", "tool_choice.type")


def _functions(data: ResponseRequest) -> Iterator[tuple[int, Tool]]:
    for at, tool in enumerate(data.tools or ()):
        if tool.type == "function":
            yield at, tool
        elif tool.type != "file_search":
            message = f"A tool of type {tool.type!r} is not known; there are: function, file_search."
            raise RequestError(message, f"tools[{at}].type")


def _function(at: int, tool: Tool) -> dict[str, Any]:
    if tool.name is None:
        raise RequestError("A function needs a name.", f"tools[{at}].name", "missing_required_parameter")
    fields = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {"name": tool.name} | {name: value for name, value in fields.items() if value is not None}
