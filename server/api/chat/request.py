"""POST /v1/chat/completions: what it asks for."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from models.llm.chat.messages import ChatMessage, Role, ToolCall
from models.llm.chat.tool_config import ToolConfig
from models.llm.constraints.forms import JsonObject, JsonSchema
from models.llm.params import SamplingParams
from server.api.chat.wire import (
    ChatFunction,
    ChatFunctionCall,
    ChatFunctionName,
    ChatNamedTool,
    ChatRequest,
    ChatRequestMessage,
    ChatResponseFormat,
)
from server.api.shared.forms import parse_json_schema, reasoning_options
from server.api.shared.rag import rag_options
from server.api.shared.tools import describe_tools, tool_config_for_mode, tool_config_for_names
from server.errors import RequestError
from server.generation.request import GenerationRequest

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_NOT_PLAIN: Final = ("logit_bias", "num_logprobs")  # sampling fields that are no request field of the same name


def generation_request(data: ChatRequest, headers: Mapping[str, str] = MappingProxyType({})) -> GenerationRequest:
    """Raises `RequestError` for what cannot be done, with the path of the field, or the header, that asks for it."""
    _refuse_unsupported(data)
    return GenerationRequest(
        messages=list(_messages(data.messages)),
        model=data.model,
        sampling=_sampling(data),
        max_tokens=_limit(data),
        stop=[data.stop] if isinstance(data.stop, str) else data.stop or (),
        num_answers=data.n or 1,
        tool_config=_functions(data) if data.functions else _tools(data),
        form=_form(data),
        options=_options(data),
        rag=rag_options(data.rag, headers),
    )


def _refuse_unsupported(data: ChatRequest) -> None:
    refused = {
        "modalities": [m for m in data.modalities or () if m != "text"] and "Answers are text; leave it out.",
        "audio": data.audio and "Answers are text; leave it out.",
        "web_search_options": data.web_search_options is not None and "There is no web search here; leave it out.",
        "grammar": data.grammar and "A grammar is not taken; use response_format with a JSON schema.",
        "functions": data.functions and data.tools and "It is tools by another name; send one of them.",
        "top_logprobs": data.top_logprobs and not data.logprobs and "It needs logprobs to be true.",
    }
    for name, message in refused.items():
        if message:
            raise RequestError(str(message), name)


def _limit(data: ChatRequest) -> int | None:
    """-1 is llama.cpp's and others' word for none."""
    for name in ("max_completion_tokens", "max_tokens", "n_predict"):
        limit: int | None = getattr(data, name)
        if limit == 0:
            raise RequestError("An answer has 1 token or more; -1 is no limit.", name, "invalid_value")
        if limit is not None:
            return limit if limit > 0 else None
    return None


def _options(data: ChatRequest) -> dict[str, Any]:
    """Variables of the chat template. Those it does not know are idle."""
    return reasoning_options(data.reasoning_effort) | (data.chat_template_kwargs or {})


def _form(data: ChatRequest) -> JsonSchema | JsonObject | None:
    form = data.response_format
    if form is None and data.json_schema is not None:
        return parse_json_schema(data.json_schema, "json_schema")
    if form is None or form.type == "text":
        return None
    return _named_form(form)


def _named_form(form: ChatResponseFormat) -> JsonSchema | JsonObject:
    if form.type == "json_schema" and form.json_schema:
        return parse_json_schema(form.json_schema.schema, "response_format.json_schema.schema")
    if form.schema is not None:
        return parse_json_schema(form.schema, "response_format.schema")
    if form.type == "json_schema":
        raise RequestError("Its schema is missing.", "response_format.json_schema", "missing_required_parameter")
    return JsonObject()


def _sampling(data: ChatRequest) -> dict[str, Any]:
    if not all(token.isdecimal() and len(token) < 10 for token in data.logit_bias or {}):
        raise RequestError("Its keys must be token ids, whole numbers.", "logit_bias", "invalid_value")
    names = [field.name for field in msgspec.structs.fields(SamplingParams) if field.name not in _NOT_PLAIN]
    chosen = {name: value for name in names if (value := getattr(data, name)) is not None}
    chosen["logit_bias"] = {int(token): value for token, value in (data.logit_bias or {}).items()}
    chosen["num_logprobs"] = (data.top_logprobs or 0) if data.logprobs else None
    return chosen


# Messages


def _messages(messages: Sequence[ChatRequestMessage]) -> Iterator[ChatMessage]:
    calls: dict[str, str] = {}  # of the old form, the id given to the last call of each name
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        role = _ROLES.get(message.role)
        if role is None:
            raise RequestError(f"{message.role!r} is no role; there are: {', '.join(_ROLES)}.", f"{where}.role")
        made = [
            _call(f"{where}.tool_calls[{i}]", call.id, call.function) for i, call in enumerate(message.tool_calls or ())
        ]
        if message.function_call:
            calls[message.function_call.name] = f"call_{at}"
            made.append(_call(f"{where}.function_call", f"call_{at}", message.function_call))
        yield ChatMessage.of_text(
            cast(Role, role),
            _text(where, message),
            made if role == "assistant" else (),
            tool_call_id=message.tool_call_id or (calls.get(message.name or "") if role == "tool" else None),
            name=message.name if role == "tool" else None,
            reasoning=message.reasoning_content if role == "assistant" else None,
        )


def _call(where: str, call_id: str | None, function: ChatFunctionCall | None) -> ToolCall:
    if function is None:
        raise RequestError("Only calls of functions are known.", f"{where}.function")
    arguments = function.arguments
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(call_id or "", function.name, arguments or "{}")


def _text(where: str, message: ChatRequestMessage) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    texts = []
    for i, part in enumerate(message.content):
        text = part.refusal if part.type == "refusal" else part.text
        if text is None:
            reason = f"This model reads text only; a part of type {part.type!r} cannot be used."
            raise RequestError(reason, f"{where}.content[{i}]")
        texts.append(text)
    return "\n".join(texts)


# Tools


def _tools(data: ChatRequest) -> ToolConfig | None:
    functions = []
    for i, tool in enumerate(data.tools or ()):
        if tool.type != "function":
            raise RequestError(f"A tool of type {tool.type!r} is not known; there is: function.", f"tools[{i}].type")
        if tool.function is None:
            raise RequestError("It describes no function.", f"tools[{i}].function", "missing_required_parameter")
        functions.append(tool.function)
    tools = describe_tools(_told(functions), "tools[{}].function.name")
    choice = data.tool_choice
    is_parallel = data.parallel_tool_calls is not False
    if choice is None or isinstance(choice, str):
        return tool_config_for_mode(tools, choice or "auto", is_parallel, "tool_choice")
    if choice.type == "allowed_tools" and choice.allowed_tools:
        allowed = _names(choice.allowed_tools.tools)
        return tool_config_for_names(
            tools, choice.allowed_tools.mode, allowed, is_parallel, "tool_choice.allowed_tools.tools"
        )
    if choice.type == "function":
        names = _names([ChatNamedTool(choice.function, choice.name)])
        return tool_config_for_names(tools, "required", names, False, "tool_choice.function.name")
    raise RequestError(f"{choice.type!r} is no choice of tools.", "tool_choice.type")


def _functions(data: ChatRequest) -> ToolConfig | None:
    tools = describe_tools(_told(data.functions or ()), "functions[{}].name")
    choice = data.function_call
    if isinstance(choice, ChatFunctionName):
        return tool_config_for_names(tools, "required", [choice.name], False, "function_call.name")
    return tool_config_for_mode(tools, choice or "auto", False, "function_call")


def _told(functions: Iterable[ChatFunction]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(function) for function in functions]


def _names(tools: Iterable[ChatNamedTool]) -> list[str]:
    return [tool.function.name if tool.function else tool.name or "" for tool in tools]
