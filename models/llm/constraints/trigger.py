"""The trigger of a call: the place in generated text from which on a grammar constrains it."""

from bisect import bisect_right
from collections.abc import Sequence


class Trigger:
    """Finds the trigger in one sequence. `span` depends on `generated` alone; continued tokens cost little."""

    def __init__(
        self, pieces: Sequence[bytes], text: str, reasoning: tuple[str, str] | None = None, is_reasoning: bool = False
    ) -> None:
        """`pieces` are the bytes of each token, control tokens by name.

        Within `reasoning`, given by its beginning and its end, the text triggers nothing. `is_reasoning`: the prompt
        ends within reasoning.
        """
        self._pieces = pieces
        self._trigger = text.encode()
        self._reasoning = None if reasoning is None else (reasoning[0].encode(), reasoning[1].encode())
        self._is_reasoning = is_reasoning
        self._tokens: list[int] = []
        self._starts: list[int] = []  # position of each token in the text
        self._text = bytearray()

    def span(self, generated: list[int]) -> tuple[int, int] | None:
        """Return the range of tokens that covers the first trigger; None if there is none."""
        self._follow(generated)
        begin = self._begin()
        at = self._text.find(self._trigger, begin) if begin >= 0 else -1
        if at < 0:
            return None
        last = at + len(self._trigger) - 1
        return bisect_right(self._starts, at) - 1, bisect_right(self._starts, last)

    def _begin(self) -> int:
        """Return where the text after the reasoning begins; -1 while it goes on."""
        if not self._reasoning:
            return 0
        begin, end = self._reasoning
        if not self._is_reasoning and not self._text.lstrip().startswith(begin):
            return 0
        at = self._text.find(end)
        return at + len(end) if at >= 0 else -1

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
