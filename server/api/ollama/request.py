"""POST /api/chat and /api/generate requests as generation and raw completion requests."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from models.llm.chat.messages import ChatMessage, Role, ToolCall
from models.llm.chat.tool_config import ToolConfig
from models.llm.constraints.forms import JsonObject
from models.llm.params import SamplingParams
from server.api.ollama.wire import OllamaChatRequest, OllamaGenerateRequest, OllamaMessage, OllamaOptions, OllamaRequest
from server.api.shared import tools
from server.api.shared.forms import parse_json_schema, reasoning_options
from server.api.shared.rag import rag_options
from server.errors import RequestError
from server.generation.answer_format import AnswerFormat
from server.generation.completion_request import RawCompletionRequest
from server.generation.request import GenerationRequest
from server.rag.options import CitationStyle

_ROLES: Final = ("system", "user", "assistant", "tool")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)")
_STEP = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")

_MAX_KEEP_S: Final = 1e9  # anything longer means for ever
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def chat_generation_request(data: OllamaChatRequest, headers: Mapping[str, str] = _NO_HEADERS) -> GenerationRequest:
    """Return the generation that POST /api/chat wants. Raises `RequestError` for what is not supported."""
    return _generation_request(
        data, [_message(at, each) for at, each in enumerate(data.messages or ())], _parse_tools(data), headers
    )


def prompt_generation_request(
    data: OllamaGenerateRequest, headers: Mapping[str, str] = _NO_HEADERS
) -> GenerationRequest:
    """Return the generation that answers the prompt as a user's question. Raises `RequestError`."""
    _refuse_unsupported(data)
    system = [ChatMessage.of_text("system", data.system)] if data.system else []
    return _generation_request(data, [*system, ChatMessage.of_text("user", data.prompt or "")], None, headers)


def is_raw(data: OllamaGenerateRequest) -> bool:
    """Return whether the prompt is a text to continue or to fill in, not a question."""
    return bool(data.raw or data.suffix)


def completion_request(data: OllamaGenerateRequest) -> RawCompletionRequest:
    """Return the raw completion that the request wants. Raises `RequestError` for what is not supported."""
    _refuse_unsupported(data)
    options = data.options or OllamaOptions()
    return RawCompletionRequest(
        prompts=[data.prompt or ""],
        suffix=data.suffix or None,
        model=data.model,
        sampling=_sampling_values(data, options),
        max_tokens=_max_tokens(options),
        stop=_stop_list(options),
        answer_format=_answer_format(data),
    )


def _refuse_unsupported(data: OllamaGenerateRequest) -> None:
    refused = {
        "template": data.template and "The model's own template is always used; leave this out.",
        "context": data.context and "Send earlier turns as messages, to /api/chat.",
        "images": data.images and "This model reads text only.",
    }
    for name, message in refused.items():
        if message:
            raise RequestError(message, name)


def _generation_request(
    data: OllamaRequest, messages: Sequence[ChatMessage], tool_config: ToolConfig | None, headers: Mapping[str, str]
) -> GenerationRequest:
    options = data.options or OllamaOptions()
    return GenerationRequest(
        messages=messages,
        model=data.model,
        sampling=_sampling_values(data, options),
        max_tokens=_max_tokens(options),
        stop=_stop_list(options),
        tool_config=tool_config,
        answer_format=_answer_format(data),
        template_options=_template_options(data.think),
        rag=rag_options(data.rag, headers, citations=CitationStyle.INLINE),  # the API has no field for annotations
    )


def _max_tokens(options: OllamaOptions) -> int | None:
    limit = options.num_predict or 0
    return limit if limit > 0 else None


def _stop_list(options: OllamaOptions) -> Sequence[str]:
    return [options.stop] if isinstance(options.stop, str) else options.stop or ()


def _sampling_values(data: OllamaRequest, options: OllamaOptions) -> dict[str, Any]:
    names = {field.name for field in msgspec.structs.fields(SamplingParams)} & set(OllamaOptions.__struct_fields__)
    values = {name: value for name in names if (value := getattr(options, name)) is not None}
    if values.get("top_k", 0) < 0:
        values["top_k"] = 0
    if values.get("seed", 0) < 0:
        del values["seed"]
    values["num_logprobs"] = (data.top_logprobs or 0) if data.logprobs else None
    return values


def _answer_format(data: OllamaRequest) -> AnswerFormat | None:
    if isinstance(data.format, dict):
        return parse_json_schema(data.format, "format")
    return AnswerFormat(JsonObject(), "format") if data.format else None


def _template_options(think: bool | str | None) -> dict[str, Any]:
    """Return the variables of the chat template. A text is the effort."""
    match think:
        case None | "":
            return {}
        case bool():
            return {"enable_thinking": think}
        case _:
            return {"enable_thinking": think != "none", **reasoning_options(think)}


def _message(at: int, message: OllamaMessage) -> ChatMessage:
    role = "system" if message.role == "developer" else message.role
    if role not in _ROLES:
        raise RequestError(f"Unknown role {message.role!r}; use one of: {', '.join(_ROLES)}.", f"messages[{at}].role")
    if message.images:
        raise RequestError("This model reads text only; send no images.", f"messages[{at}].images")
    is_assistant = role == "assistant"
    calls = [
        ToolCall(call.id or "", call.function.name, _as_json(call.function.arguments))
        for call in message.tool_calls or ()
    ]
    return ChatMessage.of_text(
        cast(Role, role),
        message.content or "",
        calls if is_assistant else (),
        tool_call_id=message.tool_call_id,
        name=message.tool_name if role == "tool" else None,
        reasoning=message.thinking if is_assistant else None,
    )


def _as_json(arguments: Mapping[str, Any] | str | None) -> str:
    if isinstance(arguments, str):
        return arguments or "{}"
    return json.dumps(arguments or {}, ensure_ascii=False)


def _parse_tools(data: OllamaChatRequest) -> ToolConfig | None:
    functions = []
    for i, tool in enumerate(data.tools or ()):
        if tool.function is None:
            raise RequestError("Describe a function here.", f"tools[{i}].function", "missing_required_parameter")
        functions.append(msgspec.to_builtins(tool.function))
    return tools.tool_config_for_mode(tools.describe_tools(functions, "tools[{}].function.name"), "auto", True, "tools")


def parse_keep_alive(keep_alive: float | str | None) -> float | None:
    """Return the seconds for which the model stays loaded; None if the request does not say. Raises `RequestError`."""
    match keep_alive:
        case None | "":
            return None
        case str():
            seconds = _seconds(keep_alive.strip())
        case _:
            seconds = float(keep_alive)
    return seconds if 0 <= seconds <= _MAX_KEEP_S else math.inf


def _seconds(text: str) -> float:
    """Return the seconds of a duration in Go's form, or of a number. Raises `RequestError`."""
    if match := _DURATION.fullmatch(text):
        length = sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(match[2]))
        return -length if match[1] == "-" else length
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise RequestError("Use a number of seconds, or a duration such as 5m.", "keep_alive", "invalid_value")
    return number
