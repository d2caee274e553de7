"""A prompt as a model reads it."""

from typing import NamedTuple, Protocol


class Prompt(Protocol):
    """A conversation as a model reads it. Only the model that rendered it can continue it."""

    @property
    def num_tokens(self) -> int: ...


class TokenPrompt(NamedTuple):
    """A `Prompt` of a model whose vocabulary is known."""

    tokens: list[int]
    is_reasoning: bool = False  # the prompt ends within the reasoning of the answer

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)


class Segment(NamedTuple):
    text: str
    is_content: bool  # else control tokens named in it are meant
