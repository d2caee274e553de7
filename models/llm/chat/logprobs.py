"""Tokens with their log probabilities, kept beside the text that they are, as far as it leaves."""

import math
from collections.abc import Iterable
from typing import NamedTuple

_LEAST = -9999.0  # what OpenAI gives for "impossible"; JSON has no infinity


class Candidate(NamedTuple):
    """A token that might have come: the bytes it stands for, control tokens by name."""

    piece: bytes
    logprob: float

    @property
    def text(self) -> str:
        return self.piece.decode(errors="replace")


class ScoredToken(NamedTuple):
    """`text` is what its piece made certain: nothing, where the piece ends within a character."""

    text: str
    chosen: Candidate
    top: tuple[Candidate, ...] = ()


def candidate(piece: bytes, logprob: float) -> Candidate:
    return Candidate(piece, logprob if math.isfinite(logprob) else _LEAST)


class TokenAlignment:
    """For one stage that holds text back and leaves text out: which tokens go with what it lets out.

    A token goes with the first of its characters that is let out.
    """

    def __init__(self) -> None:
        self._text = ""
        self._tokens: list[tuple[int, int, ScoredToken]] = []  # where in the text

    def push(self, tokens: Iterable[ScoredToken]) -> None:
        for token in tokens:
            start = len(self._text)
            self._text += token.text
            self._tokens.append((start, len(self._text), token))

    def take(self, text: str, num_held: int) -> tuple[ScoredToken, ...]:
        """The tokens of `text`, which is let out now, while the last `num_held` characters are held back. All between
        is left out."""
        size = max(0, len(self._text) - num_held)
        start = self._text.find(text, 0, size)
        end = start + len(text) if start >= 0 else size
        start = max(0, start)
        leaving = [each for each in self._tokens if each[0] < size]
        self._tokens = [(s - size, e - size, token) for s, e, token in self._tokens[len(leaving) :]]
        self._text = self._text[size:]
        return tuple(t for s, e, t in leaving if text and ((s < end and e > start) or start <= s == e < end))
