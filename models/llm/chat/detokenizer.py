"""Tokens to text, as far as the text is certain.

A token may be part of a character, and a stop string may lie across tokens; what could still become either is held
back until the next token decides.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence


class Detokenizer:
    """For one answer. After `is_stopped` nothing more comes."""

    def __init__(self, piece: Callable[[int], bytes], stop: Sequence[str] = ()) -> None:
        self._piece = piece
        self._stop = [s for s in stop if s]
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._held = ""
        self.decoded = ""  # by the last tokens fed, whatever was held back of it
        self.stopped_by: str | None = None  # the stop string that ended it

    @property
    def is_stopped(self) -> bool:
        return self.stopped_by is not None

    @property
    def num_held(self) -> int:
        """Characters that are held back."""
        return 0 if self.is_stopped else len(self._held)

    def feed(self, tokens: Iterable[int], *, final: bool = False) -> str:
        """The text these tokens make certain; everything held back, when `final`."""
        if self.is_stopped:
            return ""
        self.decoded = self._decode(b"".join(map(self._piece, tokens)), final)
        self._held += self.decoded
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:  # what ends first, as if the text had come character by character
            end, at = min(found)
            self.stopped_by = self._held[at:end]
            return self._held[:at]
        safe = len(self._held) - (0 if final else self._num_suspect())
        text, self._held = self._held[:safe], self._held[safe:]
        return text

    def _num_suspect(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest
