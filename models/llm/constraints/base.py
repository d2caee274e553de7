"""The protocol of constraints, as the engine applies them to a sequence."""

from collections.abc import Collection
from typing import Protocol


class Constraint(Protocol):
    """Tokens that may come next. Both methods depend on `generated` alone, so a sequence can be computed again."""

    def after(self, generated: list[int]) -> Collection[int] | None:
        """Return the tokens that may follow; None: every token."""

    def forced_tokens(self, generated: list[int], limit: int) -> list[int] | None:
        """Return the next tokens, at most `limit`, while there is only one way to go on; None: not known."""
