"""Items of a /v1/responses conversation as messages of a chat template."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, cast

import msgspec

from models.llm.chat.messages import ChatMessage, ToolCall
from server.api.responses.item_writers import new_item_id
from server.api.responses.items import InputItem, InputPart
from server.api.responses.wire import ResponseRequest
from server.errors import RequestError

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_ID_PREFIXES: Final = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_HOSTED: Final = ("file_search_call",)  # made by the server; what it found is in the reply already


def parse_input_items(data: ResponseRequest) -> list[InputItem]:
    """Return the request's input as items that have a type and an id each, except for references to other items."""
    if data.input is None:
        return []
    items = [InputItem(role="user", content=data.input)] if isinstance(data.input, str) else data.input
    return [_normalize(item) for item in items]


def referenced_ids(items: Sequence[InputItem]) -> list[str]:
    """Return the ids of stored items that the input refers to."""
    return [item.id or "" for item in items if item.type == "item_reference"]


def _normalize(item: InputItem) -> InputItem:
    if item.type == "item_reference":
        return item
    kind = item.type or "message"
    content = item.content
    if kind == "message" and isinstance(content, str):
        content = [InputPart("output_text" if item.role == "assistant" else "input_text", content)]
    id = item.id or new_item_id(_ID_PREFIXES.get(kind, "item"))
    return msgspec.structs.replace(item, type=kind, id=id, content=content)


def chat_messages(items: Sequence[InputItem], history: Sequence[InputItem]) -> list[ChatMessage]:
    """Return the messages of the history and of the request's items. Raises `RequestError` with an item's path."""
    return _join([*_messages(history, "previous_response_id"), *_messages(items, "input")])


def _messages(items: Sequence[InputItem], where: str) -> Iterator[ChatMessage]:
    """Yield one message per item, so that the reasoning, text and calls of one turn are several messages."""
    for at, item in enumerate(items):
        path = f"{where}[{at}]"
        match item.type or "message":
            case "message":
                yield _text_message(item, path)
            case "function_call":
                yield _call_message(item, path)
            case "function_call_output":
                yield ChatMessage.of_text("tool", _text(item.output, f"{path}.output"), tool_call_id=item.call_id)
            case "reasoning":
                parts = item.summary or (item.content if isinstance(item.content, list) else None) or ()
                if reasoning := "\n\n".join(part.text or "" for part in parts):
                    yield ChatMessage.of_text("assistant", reasoning=reasoning)
            case kind if kind in _HOSTED:
                continue
            case kind:
                raise RequestError(f"Items of type {kind!r} are not supported.", f"{path}.type")


def _text_message(item: InputItem, path: str) -> ChatMessage:
    role = _ROLES.get(item.role or "")
    if role is None:
        raise RequestError(f"Unknown role {item.role!r}; use one of: {', '.join(_ROLES)}.", f"{path}.role")
    text = _text(item.content, f"{path}.content")
    return ChatMessage.of_text(cast(Literal["system", "user", "assistant"], role), text)


def _call_message(item: InputItem, path: str) -> ChatMessage:
    if item.name is None:
        raise RequestError("A call needs a name.", f"{path}.name", "missing_required_parameter")
    arguments = item.arguments
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    call = ToolCall(item.call_id or item.id or "", item.name, arguments or "{}")
    return ChatMessage.of_text("assistant", tool_calls=(call,))


def _text(content: str | list[InputPart] | None, path: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for at, part in enumerate(content):
        text = part.refusal if part.type == "refusal" else part.text
        if text is None:
            message = f"This model reads text only; send no part of type {part.type!r}."
            raise RequestError(message, f"{path}[{at}]")
        texts.append(text)
    return "\n".join(texts)


def _join(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Return the messages with the reasoning, text and calls of each model turn in one, as chat templates expect."""
    joined: list[ChatMessage] = []
    for message in messages:
        before = joined[-1] if joined else None
        if before is not None and _continues(before, message):
            joined[-1] = msgspec.structs.replace(
                before,
                content=before.content + message.content,
                tool_calls=before.tool_calls + message.tool_calls,
                reasoning=before.reasoning or message.reasoning,
            )
        else:
            joined.append(message)
    return joined


def _continues(before: ChatMessage, message: ChatMessage) -> bool:
    """Return whether the message belongs to the same model turn: its order is reasoning, text, calls."""
    if not before.role == message.role == "assistant":
        return False
    if message.reasoning is not None:
        return False
    return bool(message.tool_calls) or not (before.content or before.tool_calls)
