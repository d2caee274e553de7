"""POST /v1/messages: what it asks for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from models.llm.chat.messages import ChatMessage, ToolCall
from models.llm.chat.tool_config import ToolConfig
from models.llm.constraints.forms import JsonSchema
from server.api.anthropic.wire import (
    AnthropicBlock,
    AnthropicCountRequest,
    AnthropicDocumentSource,
    AnthropicMessage,
    AnthropicRequest,
)
from server.api.shared import tools
from server.api.shared.forms import parse_json_schema, reasoning_options
from server.api.shared.rag import rag_options
from server.errors import RequestError
from server.generation.request import GenerationRequest

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_WITHOUT_TEXT = frozenset({"redacted_thinking"})  # nobody but its maker can read it


def generation_request(data: AnthropicRequest, headers: Mapping[str, str] = _NO_HEADERS) -> GenerationRequest:
    """Raises `RequestError` for what cannot be done, with the path of the field that asks for it."""
    refused = {
        "container": data.container and "Nothing is run here; leave it out.",
        "mcp_servers": data.mcp_servers and "No other server is asked from here; leave it out.",
    }
    for name, message in refused.items():
        if message:
            raise RequestError(str(message), name)
    return GenerationRequest(
        messages=chat_messages(data),
        model=data.model,
        sampling={
            name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(data, name)) is not None
        },
        max_tokens=data.max_tokens,
        stop=data.stop_sequences or (),
        tool_config=parse_tool_config(data),
        form=_form(data),
        options=template_options(data),
        rag=rag_options(data.rag, headers),
    )


def template_options(data: AnthropicCountRequest) -> dict[str, Any]:
    """A model reasons where that is asked for."""
    thinks = data.thinking is not None and data.thinking.type != "disabled"
    effort = data.output_config.effort if data.output_config else None
    return {**reasoning_options("high" if effort == "max" else effort), "enable_thinking": thinks}


def _form(data: AnthropicCountRequest) -> JsonSchema | None:
    where, form = "output_format", data.output_format
    if data.output_config and data.output_config.format:
        where, form = "output_config.format", data.output_config.format
    if form is None:
        return None
    if form.type != "json_schema" or form.schema is None:
        raise RequestError("There is one format: json_schema, with a schema.", where)
    return parse_json_schema(form.schema, f"{where}.schema")


# Messages


def chat_messages(data: AnthropicCountRequest) -> list[ChatMessage]:
    """Raises `RequestError`."""
    told = []
    if system := _text(data.system or "", "system"):
        told.append(ChatMessage.of_text("system", system))
    for at, message in enumerate(data.messages):
        told += _messages(message, f"messages[{at}]")
    if told[-1].role == "assistant":
        raise RequestError("The last message is the user's; an answer cannot be begun for the model.", "messages")
    return told


def _messages(message: AnthropicMessage, where: str) -> Iterator[ChatMessage]:
    match message.role:
        case "assistant":
            yield _answer(message, where)
        case "user":
            yield from _user(message, where)
        case "system":
            yield ChatMessage.of_text("system", _text(message.content, f"{where}.content"))
        case role:
            raise RequestError(f"{role!r} is no role; there are: user, assistant, system.", f"{where}.role")


def _answer(message: AnthropicMessage, where: str) -> ChatMessage:
    if isinstance(message.content, str):
        return ChatMessage.of_text("assistant", message.content)
    texts, thoughts, calls = [], [], []
    for at, block in enumerate(message.content):
        match block.type:
            case "thinking":
                thoughts.append(block.thinking or "")
            case "tool_use":
                if not block.name:
                    raise RequestError("It names no tool.", f"{where}.content[{at}].name", "missing_required_parameter")
                arguments = json.dumps(block.input or {}, ensure_ascii=False)
                calls.append(ToolCall(block.id or "", block.name, arguments))
            case _:
                texts.append(_block_text(block, f"{where}.content[{at}]"))
    return ChatMessage.of_text("assistant", "".join(texts), calls, reasoning="\n".join(filter(None, thoughts)) or None)


def _user(message: AnthropicMessage, where: str) -> Iterator[ChatMessage]:
    """What tools have told is a message of its own, where it stands."""
    if isinstance(message.content, str):
        yield ChatMessage.of_text("user", message.content)
        return
    texts: list[str] = []
    is_told = False
    for at, block in enumerate(message.content):
        path = f"{where}.content[{at}]"
        if block.type != "tool_result":
            texts.append(_block_text(block, path))
            continue
        if texts:
            yield ChatMessage.of_text("user", "\n".join(texts))
            texts = []
        text = _text(block.content or "", f"{path}.content")
        yield ChatMessage.of_text("tool", f"Error: {text}" if block.is_error else text, tool_call_id=block.tool_use_id)
        is_told = True
    if texts or not is_told:
        yield ChatMessage.of_text("user", "\n".join(texts))


def _text(content: str | Sequence[AnthropicBlock], where: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_block_text(block, f"{where}[{at}]") for at, block in enumerate(content))


def _block_text(block: AnthropicBlock, where: str) -> str:
    match block.type:
        case "text" if block.text is not None:
            return block.text
        case "search_result":
            titled = filter(None, [block.title, block.source if isinstance(block.source, str) else None])
            return "\n".join([*titled, _text(block.content or "", f"{where}.content")])
        case "document" if isinstance(block.source, AnthropicDocumentSource):
            return "\n".join(filter(None, [block.title, _document(block.source, f"{where}.source")]))
        case kind if kind in _WITHOUT_TEXT:
            return ""
    raise RequestError(f"This model reads text only; a block of type {block.type!r} cannot be used.", where)


def _document(source: AnthropicDocumentSource, where: str) -> str:
    if source.type == "text" and source.data is not None:
        return source.data
    if source.type == "content" and source.content is not None:
        return _text(source.content, f"{where}.content")
    raise RequestError(f"This model reads text only; a document of {source.type!r} cannot be used.", where)


# Tools


def parse_tool_config(data: AnthropicCountRequest) -> ToolConfig | None:
    """Raises `RequestError`."""
    functions = []
    for i, tool in enumerate(data.tools or ()):
        if tool.type not in (None, "custom"):
            raise RequestError(f"A tool of type {tool.type!r} is not known; there is: custom.", f"tools[{i}].type")
        told = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
        functions.append(
            {name: value for name, value in told.items() if value is not None}
            | ({"strict": True} if tool.strict else {})
        )
    known = tools.describe_tools(functions, "tools[{}].name")
    choice = data.tool_choice
    is_parallel = not (choice and choice.disable_parallel_tool_use)
    if choice and choice.type == "tool":
        return tools.tool_config_for_names(known, "required", [choice.name or ""], False, "tool_choice.name")
    return tools.tool_config_for_mode(known, cast(str, choice.type) if choice else "auto", is_parallel, "tool_choice")
