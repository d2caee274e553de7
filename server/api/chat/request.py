"""A POST /v1/chat/completions request as a generation request."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from models.llm.chat.messages import ChatMessage, Role, ToolCall
from models.llm.chat.tool_config import ToolConfig
from models.llm.constraints.forms import JsonObject
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
from server.generation.answer_format import AnswerFormat
from server.generation.request import GenerationRequest

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_CONVERTED: Final = ("logit_bias", "num_logprobs")  # sampling fields that no request field equals


def generation_request(data: ChatRequest, headers: Mapping[str, str] = MappingProxyType({})) -> GenerationRequest:
    """Return the generation that the request wants.

    Raises `RequestError` for what is not supported, with the path of the field, or the header, at fault.
    """
    _refuse_unsupported(data)
    return GenerationRequest(
        messages=list(_messages(data.messages)),
        model=data.model,
        sampling=_sampling_values(data),
        max_tokens=_max_tokens(data),
        stop=[data.stop] if isinstance(data.stop, str) else data.stop or (),
        num_answers=data.n or 1,
        tool_config=_parse_functions(data) if data.functions else _parse_tools(data),
        answer_format=_answer_format(data),
        template_options=_template_options(data),
        rag=rag_options(data.rag, headers),
    )


def _refuse_unsupported(data: ChatRequest) -> None:
    refused = {
        "modalities": [m for m in data.modalities or () if m != "text"] and "Answers are text; leave this out.",
        "audio": data.audio and "Answers are text; leave this out.",
        "web_search_options": data.web_search_options is not None and "Web search is not available; leave this out.",
        "grammar": data.grammar and "Grammars are not supported; use response_format with a JSON schema.",
        "functions": data.functions and data.tools and "Functions are tools by an older name; send only one of them.",
        "top_logprobs": data.top_logprobs and not data.logprobs and "This needs logprobs: true.",
    }
    for name, message in refused.items():
        if message:
            raise RequestError(str(message), name)


def _max_tokens(data: ChatRequest) -> int | None:
    """Return the limit; None for none, which llama.cpp's clients write as -1."""
    for name in ("max_completion_tokens", "max_tokens", "n_predict"):
        limit: int | None = getattr(data, name)
        if limit == 0:
            raise RequestError("An answer has at least 1 token; -1 means no limit.", name, "invalid_value")
        if limit is not None:
            return limit if limit > 0 else None
    return None


def _template_options(data: ChatRequest) -> dict[str, Any]:
    return reasoning_options(data.reasoning_effort) | (data.chat_template_kwargs or {})


def _answer_format(data: ChatRequest) -> AnswerFormat | None:
    form = data.response_format
    if form is None and data.json_schema is not None:
        return parse_json_schema(data.json_schema, "json_schema")
    if form is None or form.type == "text":
        return None
    return _parse_format(form)


def _parse_format(form: ChatResponseFormat) -> AnswerFormat:
    if form.type == "json_schema" and form.json_schema:
        return parse_json_schema(form.json_schema.schema, "response_format.json_schema.schema")
    if form.schema is not None:
        return parse_json_schema(form.schema, "response_format.schema")
    if form.type == "json_schema":
        raise RequestError("Its schema is missing.", "response_format.json_schema", "missing_required_parameter")
    return AnswerFormat(JsonObject(), "response_format")


def _sampling_values(data: ChatRequest) -> dict[str, Any]:
    if not all(token.isdecimal() and len(token) < 10 for token in data.logit_bias or {}):
        raise RequestError("The keys must be token ids, as whole numbers.", "logit_bias", "invalid_value")
    names = [field.name for field in msgspec.structs.fields(SamplingParams) if field.name not in _CONVERTED]
    values = {name: value for name in names if (value := getattr(data, name)) is not None}
    values["logit_bias"] = {int(token): value for token, value in (data.logit_bias or {}).items()}
    values["num_logprobs"] = (data.top_logprobs or 0) if data.logprobs else None
    return values


# Messages


def _messages(messages: Sequence[ChatRequestMessage]) -> Iterator[ChatMessage]:
    call_ids: dict[str, str] = {}  # of the last legacy call of each function
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        role = _ROLES.get(message.role)
        if role is None:
            raise RequestError(f"Unknown role {message.role!r}; use one of: {', '.join(_ROLES)}.", f"{where}.role")
        calls = [
            _call(f"{where}.tool_calls[{i}]", call.id, call.function) for i, call in enumerate(message.tool_calls or ())
        ]
        if message.function_call:
            call_ids[message.function_call.name] = f"call_{at}"
            calls.append(_call(f"{where}.function_call", f"call_{at}", message.function_call))
        yield ChatMessage.of_text(
            cast(Role, role),
            _text(where, message),
            calls if role == "assistant" else (),
            tool_call_id=message.tool_call_id or (call_ids.get(message.name or "") if role == "tool" else None),
            name=message.name if role == "tool" else None,
            reasoning=message.reasoning_content if role == "assistant" else None,
        )


def _call(where: str, call_id: str | None, function: ChatFunctionCall | None) -> ToolCall:
    if function is None:
        raise RequestError("Only calls of functions are supported.", f"{where}.function")
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
            message_text = f"This model reads text only; send no part of type {part.type!r}."
            raise RequestError(message_text, f"{where}.content[{i}]")
        texts.append(text)
    return "\n".join(texts)


# Tools


def _parse_tools(data: ChatRequest) -> ToolConfig | None:
    functions = []
    for i, tool in enumerate(data.tools or ()):
        if tool.type != "function":
            raise RequestError(f"Unknown tool type {tool.type!r}; use function.", f"tools[{i}].type")
        if tool.function is None:
            raise RequestError("Describe a function here.", f"tools[{i}].function", "missing_required_parameter")
        functions.append(tool.function)
    tools = describe_tools(_to_builtins(functions), "tools[{}].function.name")
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
    raise RequestError(f"Unknown tool choice {choice.type!r}; use function or allowed_tools.", "tool_choice.type")


def _parse_functions(data: ChatRequest) -> ToolConfig | None:
    tools = describe_tools(_to_builtins(data.functions or ()), "functions[{}].name")
    choice = data.function_call
    if isinstance(choice, ChatFunctionName):
        return tool_config_for_names(tools, "required", [choice.name], False, "function_call.name")
    return tool_config_for_mode(tools, choice or "auto", False, "function_call")


def _to_builtins(functions: Iterable[ChatFunction]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(function) for function in functions]


def _names(tools: Iterable[ChatNamedTool]) -> list[str]:
    return [tool.function.name if tool.function else tool.name or "" for tool in tools]
