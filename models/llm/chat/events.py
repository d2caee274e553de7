"""Events of an assistant's turn while it is being generated: reasoning, text, tool calls, and how it ended.

Every API makes its reply from these events and from nothing else.
"""

from enum import StrEnum

import msgspec

from models.llm.chat.logprobs import ScoredToken


class Content(msgspec.Struct, frozen=True):
    """Text of the answer. `tokens` are those of the text, when log probabilities were asked for."""

    text: str
    tokens: tuple[ScoredToken, ...] = ()


class Reasoning(msgspec.Struct, frozen=True):
    text: str


class ToolCallStart(msgspec.Struct, frozen=True):
    """The beginning of a tool call. `index` counts the calls of one answer from 0."""

    index: int
    id: str
    name: str


class ToolCallArguments(msgspec.Struct, frozen=True):
    """A piece of a call's arguments. All texts of one index together are one JSON object."""

    index: int
    text: str


class EndReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class TurnEnd(msgspec.Struct, frozen=True):
    """The end of a turn, with its numbers of tokens."""

    reason: EndReason
    num_generated: int
    num_reasoning: int  # of those generated
    num_cached: int  # tokens of the prompt that needed no computing
    stopped_by: str | None = None  # the stop string that ended it


ParsedEvent = Content | Reasoning | ToolCallStart | ToolCallArguments
TurnEvent = ParsedEvent | TurnEnd
