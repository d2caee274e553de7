"""A prompt as a model reads it."""

from typing import NamedTuple


class Prompt(NamedTuple):
    tokens: list[int]
    is_reasoning: bool = False  # the prompt ends within the reasoning of the answer


class Segment(NamedTuple):
    text: str
    is_content: bool  # else control tokens named in it are meant
