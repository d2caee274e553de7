"""POST /api/chat and /api/generate: what they ask for."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from models.llm.chat.messages import ChatMessage, Role, ToolCall
from models.llm.chat.tool_config import ToolConfig
from models.llm.constraints.forms import JsonObject, JsonSchema
from models.llm.params import SamplingParams
from server.api.ollama.wire import OllamaChatRequest, OllamaGenerateRequest, OllamaMessage, OllamaOptions, OllamaRequest
from server.api.shared import tools
from server.api.shared.forms import parse_json_schema, reasoning_options
from server.api.shared.rag import rag_options
from server.errors import RequestError
from server.generation.completion_request import RawCompletionRequest
from server.generation.request import GenerationRequest
from server.rag.options import CitationStyle

_ROLES: Final = ("system", "user", "assistant", "tool")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)")
_STEP = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")

_LONGEST_S: Final = 1e9  # that is still counted; more is for ever
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def chat_generation_request(data: OllamaChatRequest, headers: Mapping[str, str] = _NO_HEADERS) -> GenerationRequest:
    """Raises `RequestError` for what cannot be done."""
    return _ask(data, [_message(at, each) for at, each in enumerate(data.messages or ())], _toolbox(data), headers)


def prompt_generation_request(
    data: OllamaGenerateRequest, headers: Mapping[str, str] = _NO_HEADERS
) -> GenerationRequest:
    """The prompt as a user's question. Raises `RequestError` for what cannot be done."""
    _refuse_unsupported(data)
    system = [ChatMessage.of_text("system", data.system)] if data.system else []
    return _ask(data, [*system, ChatMessage.of_text("user", data.prompt or "")], None, headers)


def is_raw(data: OllamaGenerateRequest) -> bool:
    """Whether the prompt is to be read as it is, or up to a gap, and not as a question."""
    return bool(data.raw or data.suffix)


def completion_request(data: OllamaGenerateRequest) -> RawCompletionRequest:
    """Of a bare prompt. Raises `RequestError` for what cannot be done."""
    _refuse_unsupported(data)
    options = data.options or OllamaOptions()
    return RawCompletionRequest(
        prompts=[data.prompt or ""],
        suffix=data.suffix or None,
        model=data.model,
        sampling=_sampling(data, options),
        max_tokens=_limit(options),
        stop=_stops(options),
        form=_form(data),
    )


def _refuse_unsupported(data: OllamaGenerateRequest) -> None:
    refused = {
        "template": data.template and "The model's own template is used; leave it out.",
        "context": data.context and "Earlier turns are sent as messages, to /api/chat.",
        "images": data.images and "This model reads text only.",
    }
    for name, message in refused.items():
        if message:
            raise RequestError(message, name)


def _ask(
    data: OllamaRequest, messages: Sequence[ChatMessage], tool_config: ToolConfig | None, headers: Mapping[str, str]
) -> GenerationRequest:
    options = data.options or OllamaOptions()
    return GenerationRequest(
        messages=messages,
        model=data.model,
        sampling=_sampling(data, options),
        max_tokens=_limit(options),
        stop=_stops(options),
        tool_config=tool_config,
        form=_form(data),
        options=_thinking(data.think),
        rag=rag_options(data.rag, headers, citations=CitationStyle.INLINE),  # this dialect has nothing but the text
    )


def _limit(options: OllamaOptions) -> int | None:
    limit = options.num_predict or 0
    return limit if limit > 0 else None


def _stops(options: OllamaOptions) -> Sequence[str]:
    return [options.stop] if isinstance(options.stop, str) else options.stop or ()


def _sampling(data: OllamaRequest, options: OllamaOptions) -> dict[str, Any]:
    names = {field.name for field in msgspec.structs.fields(SamplingParams)} & set(OllamaOptions.__struct_fields__)
    chosen = {name: value for name in names if (value := getattr(options, name)) is not None}
    if chosen.get("top_k", 0) < 0:
        chosen["top_k"] = 0
    if chosen.get("seed", 0) < 0:
        del chosen["seed"]
    chosen["num_logprobs"] = (data.top_logprobs or 0) if data.logprobs else None
    return chosen


def _form(data: OllamaRequest) -> JsonSchema | JsonObject | None:
    if isinstance(data.format, dict):
        return parse_json_schema(data.format, "format")
    return JsonObject() if data.format else None


def _thinking(think: bool | str | None) -> dict[str, Any]:
    """Variables of the chat template. A word is how much."""
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
        raise RequestError(f"{message.role!r} is no role; there are: {', '.join(_ROLES)}.", f"messages[{at}].role")
    if message.images:
        raise RequestError("This model reads text only; an image cannot be used.", f"messages[{at}].images")
    is_answer = role == "assistant"
    calls = [
        ToolCall(call.id or "", call.function.name, _as_json(call.function.arguments))
        for call in message.tool_calls or ()
    ]
    return ChatMessage.of_text(
        cast(Role, role),
        message.content or "",
        calls if is_answer else (),
        tool_call_id=message.tool_call_id,
        name=message.tool_name if role == "tool" else None,
        reasoning=message.thinking if is_answer else None,
    )


def _as_json(arguments: Mapping[str, Any] | str | None) -> str:
    if isinstance(arguments, str):
        return arguments or "{}"
    return json.dumps(arguments or {}, ensure_ascii=False)


def _toolbox(data: OllamaChatRequest) -> ToolConfig | None:
    functions = []
    for i, tool in enumerate(data.tools or ()):
        if tool.function is None:
            raise RequestError("It describes no function.", f"tools[{i}].function", "missing_required_parameter")
        functions.append(msgspec.to_builtins(tool.function))
    return tools.tool_config_for_mode(tools.describe_tools(functions, "tools[{}].function.name"), "auto", True, "tools")


def parse_keep_alive(keep_alive: float | str | None) -> float | None:
    """None where nothing is said. Raises `RequestError`."""
    match keep_alive:
        case None | "":
            return None
        case str():
            seconds = _seconds(keep_alive.strip())
        case _:
            seconds = float(keep_alive)
    return seconds if 0 <= seconds <= _LONGEST_S else math.inf


def _seconds(text: str) -> float:
    """Of a duration as Go writes it, or of a number."""
    if found := _DURATION.fullmatch(text):
        length = sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(found[2]))
        return -length if found[1] == "-" else length
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise RequestError("It is a number of seconds, or a duration such as 5m.", "keep_alive", "invalid_value")
    return number
