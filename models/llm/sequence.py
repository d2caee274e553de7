"""One stream of tokens on its way through the engine."""

from enum import StrEnum

from models.llm.constraint import Choices
from models.llm.params import SamplingParams


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


class Sequence:
    """A prompt and what was generated after it.

    Holds at all times: `0 <= num_computed <= len(tokens)` and `num_prompt <= len(tokens)`. `slot` is None while the
    sequence waits; the scheduler alone gives and takes it. Hashes by identity.
    """

    def __init__(
        self,
        id: int,
        prompt: list[int],
        max_tokens: int,
        sampling: SamplingParams,
        choices: Choices | None = None,
    ) -> None:
        if not prompt:
            raise ValueError("a sequence needs at least one token to start from")
        self.id = id
        self.tokens = list(prompt)
        self.num_prompt = len(prompt)
        self.max_tokens = max_tokens
        self.sampling = sampling
        self.choices = choices
        self.num_computed = 0  # tokens whose keys and values are in the slot
        self.slot: int | None = None
        self.finish_reason: FinishReason | None = None

    @property
    def num_missing(self) -> int:
        """Tokens the model has yet to read before it can give the next one."""
        return len(self.tokens) - self.num_computed

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - self.num_prompt

    def allowed(self) -> list[int] | None:
        """Tokens that may come next; None: all of them."""
        return None if self.choices is None else self.choices.after(self.tokens[self.num_prompt :])
