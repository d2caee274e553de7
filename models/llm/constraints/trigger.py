"""Where in what was generated a call begins, so that it is constrained from there on and nothing before it is."""

from bisect import bisect_right
from collections.abc import Sequence


class Trigger:
    """For one sequence. What it says depends on `generated` alone; going on from the last question costs little."""

    def __init__(
        self, pieces: Sequence[bytes], text: str, reasoning: tuple[str, str] | None = None, is_reasoning: bool = False
    ) -> None:
        """`pieces` are the bytes of each token, control tokens by name. Within `reasoning`, which the prompt may have
        begun already, the text triggers nothing."""
        self._pieces = pieces
        self._trigger = text.encode()
        self._reasoning = None if reasoning is None else (reasoning[0].encode(), reasoning[1].encode())
        self._is_reasoning = is_reasoning
        self._tokens: list[int] = []
        self._starts: list[int] = []  # of each token in the text
        self._text = bytearray()

    def span(self, generated: list[int]) -> tuple[int, int] | None:
        """The tokens, from and to, that hold the first trigger, whole; None if there is none."""
        self._follow(generated)
        found = self._text.find(self._trigger, self._begin()) if self._begin() >= 0 else -1
        if found < 0:
            return None
        last = found + len(self._trigger) - 1
        return bisect_right(self._starts, found) - 1, bisect_right(self._starts, last)

    def _begin(self) -> int:
        """Where the text behind the reasoning begins; -1 while it goes on."""
        if not self._reasoning:
            return 0
        begin, end = self._reasoning
        if not self._is_reasoning and not self._text.lstrip().startswith(begin):
            return 0
        found = self._text.find(end)
        return found + len(end) if found >= 0 else -1

    def _follow(self, generated: list[int]) -> None:
        num_kept = len(self._tokens)
        if generated[:num_kept] != self._tokens:
            pairs = enumerate(zip(self._tokens, generated, strict=False))
            num_kept = next((i for i, (old, new) in pairs if old != new), min(len(self._tokens), len(generated)))
            del self._text[self._starts[num_kept] :], self._tokens[num_kept:], self._starts[num_kept:]
        for token in generated[num_kept:]:
            self._tokens.append(token)
            self._starts.append(len(self._text))
            self._text += self._pieces[token]
