"""A constraint that ends its answer when it fails."""

from collections.abc import Collection

from models.errors import GrammarError
from models.llm.constraints.base import Constraint


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

    def forced_tokens(self, generated: list[int], limit: int) -> list[int] | None:
        if self.error is None:
            try:
                return self._grammar.forced_tokens(generated, limit)
            except GrammarError as error:
                self.error = str(error)
        return []
