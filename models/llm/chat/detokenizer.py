"""Detokenizing of an answer as far as its text is certain.

A token may be part of a character, and a stop string may lie across tokens; text that could still become part of
either is held back until the next token decides.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence


class Detokenizer:
    """The detokenizer of one answer. Once `is_stopped`, it gives no more text."""

    def __init__(self, piece: Callable[[int], bytes], stop: Sequence[str] = ()) -> None:
        self._piece = piece
        self._stop = [s for s in stop if s]
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._held = ""
        self.decoded = ""  # text of the last tokens fed, held back or not
        self.stopped_by: str | None = None  # the stop string that ended the answer

    @property
    def is_stopped(self) -> bool:
        return self.stopped_by is not None

    @property
    def num_held(self) -> int:
        """The number of characters held back."""
        return 0 if self.is_stopped else len(self._held)

    def feed(self, tokens: Iterable[int], *, final: bool = False) -> str:
        """Return the text that these tokens make certain; when `final`, everything held back too."""
        if self.is_stopped:
            return ""
        self.decoded = self._decode(b"".join(map(self._piece, tokens)), final)
        self._held += self.decoded
        spans = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if spans:  # the one that ends first, as if the text had come character by character
            end, at = min(spans)
            self.stopped_by = self._held[at:end]
            return self._held[:at]
        safe = len(self._held) - (0 if final else self._num_uncertain())
        text, self._held = self._held[:safe], self._held[safe:]
        return text

    def _num_uncertain(self) -> int:
        """Return the length of the longest suffix of the held text that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest
