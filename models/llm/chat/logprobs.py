"""Tokens with their log probabilities, aligned with the text that is emitted."""

import math
from collections.abc import Iterable
from typing import NamedTuple

_MIN_LOGPROB = -9999.0  # OpenAI's value for "impossible"; JSON has no infinity


class Candidate(NamedTuple):
    """A token that the model considered. `piece` is its bytes, the name of a control token."""

    piece: bytes
    logprob: float

    @property
    def text(self) -> str:
        return self.piece.decode(errors="replace")


class ScoredToken(NamedTuple):
    """A token that was drawn. `text` is what its piece made certain: nothing if the piece ends within a character."""

    text: str
    chosen: Candidate
    top: tuple[Candidate, ...] = ()


def candidate(piece: bytes, logprob: float) -> Candidate:
    return Candidate(piece, logprob if math.isfinite(logprob) else _MIN_LOGPROB)


class TokenAlignment:
    """Matches tokens to emitted text in a stage that holds text back or leaves some out.

    A token goes with the first of its characters that is emitted.
    """

    def __init__(self) -> None:
        self._text = ""
        self._tokens: list[tuple[int, int, ScoredToken]] = []  # with start and end in the text

    def push(self, tokens: Iterable[ScoredToken]) -> None:
        for token in tokens:
            start = len(self._text)
            self._text += token.text
            self._tokens.append((start, len(self._text), token))

    def take(self, text: str, num_held: int) -> tuple[ScoredToken, ...]:
        """Return the tokens of `text`, which is emitted now.

        The last `num_held` characters stay held back; text in between is left out for good.
        """
        size = max(0, len(self._text) - num_held)
        start = self._text.find(text, 0, size)
        end = start + len(text) if start >= 0 else size
        start = max(0, start)
        leaving = [each for each in self._tokens if each[0] < size]
        self._tokens = [(s - size, e - size, token) for s, e, token in self._tokens[len(leaving) :]]
        self._text = self._text[size:]
        return tuple(t for s, e, t in leaving if text and ((s < end and e > start) or start <= s == e < end))
