"""A POST /v1/messages request as a generation request."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from models.llm.chat.messages import ChatMessage, ToolCall
from models.llm.chat.tool_config import ToolConfig
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
from server.generation.answer_format import AnswerFormat
from server.generation.request import GenerationRequest

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_IGNORED_BLOCKS = frozenset({"redacted_thinking"})  # encrypted for the server that made it


def generation_request(data: AnthropicRequest, headers: Mapping[str, str] = _NO_HEADERS) -> GenerationRequest:
    """Return the generation that the request wants.

    Raises `RequestError`, with the path of the field, for what is not supported.
    """
    refused = {
        "container": data.container and "Code execution is not available; leave this out.",
        "mcp_servers": data.mcp_servers and "Remote MCP servers are not available; leave this out.",
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
        answer_format=_answer_format(data),
        template_options=template_options(data),
        rag=rag_options(data.rag, headers),
    )


def template_options(data: AnthropicCountRequest) -> dict[str, Any]:
    """Return the variables of the chat template. The model reasons only if the request enables thinking."""
    is_thinking = data.thinking is not None and data.thinking.type != "disabled"
    effort = data.output_config.effort if data.output_config else None
    return {**reasoning_options("high" if effort == "max" else effort), "enable_thinking": is_thinking}


def _answer_format(data: AnthropicCountRequest) -> AnswerFormat | None:
    where, form = "output_format", data.output_format
    if data.output_config and data.output_config.format:
        where, form = "output_config.format", data.output_config.format
    if form is None:
        return None
    if form.type != "json_schema" or form.schema is None:
        raise RequestError("The format must be json_schema, with a schema.", where)
    return parse_json_schema(form.schema, f"{where}.schema")


# Messages


def chat_messages(data: AnthropicCountRequest) -> list[ChatMessage]:
    """Return the conversation, with the system prompt first. Raises `RequestError`."""
    messages = []
    if system := _text(data.system or "", "system"):
        messages.append(ChatMessage.of_text("system", system))
    for at, message in enumerate(data.messages):
        messages += _chat_messages(message, f"messages[{at}]")
    if messages[-1].role == "assistant":
        raise RequestError("The last message must be the user's; prefilled answers are not supported.", "messages")
    return messages


def _chat_messages(message: AnthropicMessage, where: str) -> Iterator[ChatMessage]:
    match message.role:
        case "assistant":
            yield _assistant_message(message, where)
        case "user":
            yield from _user_messages(message, where)
        case "system":
            yield ChatMessage.of_text("system", _text(message.content, f"{where}.content"))
        case role:
            raise RequestError(f"Unknown role {role!r}; use user, assistant or system.", f"{where}.role")


def _assistant_message(message: AnthropicMessage, where: str) -> ChatMessage:
    if isinstance(message.content, str):
        return ChatMessage.of_text("assistant", message.content)
    texts, thoughts, calls = [], [], []
    for at, block in enumerate(message.content):
        match block.type:
            case "thinking":
                thoughts.append(block.thinking or "")
            case "tool_use":
                if not block.name:
                    raise RequestError(
                        "A tool call needs a name.", f"{where}.content[{at}].name", "missing_required_parameter"
                    )
                arguments = json.dumps(block.input or {}, ensure_ascii=False)
                calls.append(ToolCall(block.id or "", block.name, arguments))
            case _:
                texts.append(_block_text(block, f"{where}.content[{at}]"))
    return ChatMessage.of_text("assistant", "".join(texts), calls, reasoning="\n".join(filter(None, thoughts)) or None)


def _user_messages(message: AnthropicMessage, where: str) -> Iterator[ChatMessage]:
    """Yield the messages of a user turn: each tool result is a message of its own, in its place."""
    if isinstance(message.content, str):
        yield ChatMessage.of_text("user", message.content)
        return
    texts: list[str] = []
    has_result = False
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
        has_result = True
    if texts or not has_result:
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
            headings = filter(None, [block.title, block.source if isinstance(block.source, str) else None])
            return "\n".join([*headings, _text(block.content or "", f"{where}.content")])
        case "document" if isinstance(block.source, AnthropicDocumentSource):
            return "\n".join(filter(None, [block.title, _document(block.source, f"{where}.source")]))
        case kind if kind in _IGNORED_BLOCKS:
            return ""
    raise RequestError(f"This model reads text only; send no block of type {block.type!r}.", where)


def _document(source: AnthropicDocumentSource, where: str) -> str:
    if source.type == "text" and source.data is not None:
        return source.data
    if source.type == "content" and source.content is not None:
        return _text(source.content, f"{where}.content")
    raise RequestError(f"This model reads text only; send no document of type {source.type!r}.", where)


# Tools


def parse_tool_config(data: AnthropicCountRequest) -> ToolConfig | None:
    """Return the tools that the model may or must call; None if there are none. Raises `RequestError`."""
    functions = []
    for i, tool in enumerate(data.tools or ()):
        if tool.type not in (None, "custom"):
            raise RequestError(f"Unknown tool type {tool.type!r}; use custom.", f"tools[{i}].type")
        fields = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
        functions.append(
            {name: value for name, value in fields.items() if value is not None}
            | ({"strict": True} if tool.strict else {})
        )
    known = tools.describe_tools(functions, "tools[{}].name")
    choice = data.tool_choice
    is_parallel = not (choice and choice.disable_parallel_tool_use)
    if choice and choice.type == "tool":
        return tools.tool_config_for_names(known, "required", [choice.name or ""], False, "tool_choice.name")
    return tools.tool_config_for_mode(known, cast(str, choice.type) if choice else "auto", is_parallel, "tool_choice")
