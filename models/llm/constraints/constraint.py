"""Constraints that the engine applies to a sequence: guided choice, and grammars that end their answer on failure."""

from collections.abc import Collection, Sequence

from models.errors import GrammarError
from models.llm.constraints.base import Constraint


class Choices:
    """Guided choice: the answer is one of these token sequences and then ends.

    It has no state, so that a sequence may be preempted and computed again at any token.
    """

    def __init__(self, choices: Sequence[list[int]], end_token: int) -> None:
        if not choices:
            raise ValueError("there must be at least one choice")
        self._choices = choices
        self._end_token = end_token

    def after(self, generated: list[int]) -> list[int]:
        """Return the tokens that may follow; the end token alone if no choice begins like this."""
        size = len(generated)
        following = {c[size] if len(c) > size else self._end_token for c in self._open(generated)}
        return sorted(following) or [self._end_token]

    def forced(self, generated: list[int], limit: int) -> list[int]:
        """Return the next tokens, at most `limit`, as far as there is no alternative."""
        open_choices = self._open(generated)
        if len(open_choices) != 1:
            return []
        return [*open_choices[0][len(generated) :], self._end_token][:limit]

    def _open(self, generated: list[int]) -> list[list[int]]:
        return [choice for choice in self._choices if choice[: len(generated)] == generated]


class FailClosed:
    """A grammar that ends its answer when it fails, so that other sequences of the batch go on. `error` says why."""

    def __init__(self, grammar: Constraint, end_token: int) -> None:
        self._grammar = grammar
        self._end_token = end_token
        self.error: str | None = None

    def after(self, generated: list[int]) -> Collection[int] | None:
        if self.error is None:
            try:
                return self._grammar.after(generated)
            except GrammarError as error:
                self.error = str(error)
        return [self._end_token]

    def forced(self, generated: list[int], limit: int) -> list[int] | None:
        if self.error is None:
            try:
                return self._grammar.forced(generated, limit)
            except GrammarError as error:
                self.error = str(error)
        return []
