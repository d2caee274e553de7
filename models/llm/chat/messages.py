"""Messages of a conversation, whatever API it came by and whatever template will render it."""

from collections.abc import Sequence
from typing import Literal, Self

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    text: str


ContentPart = TextPart  # a union, once there are parts of other kinds


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str  # a JSON object


class ChatMessage(msgspec.Struct, frozen=True):
    role: Role
    content: tuple[ContentPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None

    @classmethod
    def of_text(
        cls,
        role: Role,
        text: str = "",
        tool_calls: Sequence[ToolCall] = (),
        *,
        tool_call_id: str | None = None,
        name: str | None = None,
        reasoning: str | None = None,
    ) -> Self:
        """Make a message whose content is this text alone; an empty text gives no part."""
        return cls(role, text_content(text), tuple(tool_calls), tool_call_id, name, reasoning)

    @property
    def text(self) -> str:
        """The text of all parts that have text, joined."""
        return "".join(part.text for part in self.content)


def text_content(text: str) -> tuple[ContentPart, ...]:
    """Return the content that consists of this text alone."""
    return (TextPart(text),) if text else ()


def replace_text(message: ChatMessage, text: str) -> ChatMessage:
    """Return the message with this text in place of its own; parts without text stay."""
    return msgspec.structs.replace(message, content=text_content(text))
