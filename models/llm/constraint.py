"""What an answer may be."""

from collections.abc import Sequence


class Choices:
    """The answer is one of these token sequences and then ends: guided choice.

    Holds no state of its own, so that a sequence may be preempted and computed again at any token.
    """

    def __init__(self, choices: Sequence[list[int]], end_token: int) -> None:
        if not choices:
            raise ValueError("a choice of nothing has no answer")
        self._choices = choices
        self._end_token = end_token

    def after(self, generated: list[int]) -> list[int]:
        """The tokens that may follow what was generated, which is the beginning of a choice; never empty."""
        size = len(generated)
        open_choices = [choice for choice in self._choices if choice[:size] == generated]
        following = {choice[size] if len(choice) > size else self._end_token for choice in open_choices}
        return sorted(following) or [self._end_token]
