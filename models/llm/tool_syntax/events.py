"""What a model's text turns out to be."""

import msgspec

from models.llm.chat.logprobs import ScoredToken


class Content(msgspec.Struct, frozen=True):
    """`tokens`: those of the text, when their log probabilities were asked for."""

    text: str
    tokens: tuple[ScoredToken, ...] = ()


class Reasoning(msgspec.Struct, frozen=True):
    text: str


class ToolCallStart(msgspec.Struct, frozen=True):
    """`index` counts the calls of one answer from 0."""

    index: int
    id: str
    name: str


class ToolCallArguments(msgspec.Struct, frozen=True):
    """All texts of one index together are one JSON object."""

    index: int
    text: str


Event = Content | Reasoning | ToolCallStart | ToolCallArguments
