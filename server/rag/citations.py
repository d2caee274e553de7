"""`[n]` in an answer: markers that name no source are removed while the text streams; the others become citations."""

import re
from typing import NamedTuple

_MARKER = re.compile(r"\s?\[(\d{1,4})\]")
_MAYBE = re.compile(r"\s?(?:\[\d{0,4})?\Z")  # the end of a text that could still become a marker


class Citation(NamedTuple):
    """A marker in the final text: `text[start:end]`, code points."""

    number: int
    start: int
    end: int


class MarkerFilter:
    """For one answer. Holds back at most a marker's length of text."""

    def __init__(self, numbers: frozenset[int]) -> None:
        self._numbers = numbers
        self._held = ""
        self._length = 0  # of the text given out
        self.citations: list[Citation] = []

    @property
    def num_held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    def feed(self, text: str, *, final: bool = False) -> str:
        self._held += text
        out: list[str] = []
        at = 0
        for found in _MARKER.finditer(self._held):
            if (number := int(found[1])) in self._numbers:
                out.append(self._held[at : found.end()])
                end = self._length + sum(map(len, out))
                self.citations.append(Citation(number, end - len(found[1]) - 2, end))
            else:
                out.append(self._held[at : found.start()])
            at = found.end()
        rest = self._held[at:]
        suspect = None if final else _MAYBE.search(rest)
        keep = len(rest) if suspect is None else suspect.start()
        out.append(rest[:keep])
        self._held = rest[keep:]
        given = "".join(out)
        self._length += len(given)
        return given
