"""Guided choice: an answer that is one of several texts."""

from collections.abc import Sequence


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

    def forced_tokens(self, generated: list[int], limit: int) -> list[int]:
        """Return the next tokens, at most `limit`, as far as there is no alternative."""
        open_choices = self._open(generated)
        if len(open_choices) != 1:
            return []
        return [*open_choices[0][len(generated) :], self._end_token][:limit]

    def _open(self, generated: list[int]) -> list[list[int]]:
        return [choice for choice in self._choices if choice[: len(generated)] == generated]
