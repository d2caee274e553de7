"""Citation markers in an answer. A marker that names no source is removed while the text streams; the others become
citations.

A marker is a number from 1 to 999 in brackets, or several: `[1]`, `[^1]`, `[1, 2]`, `[1-3]`, `【1】`, `【1†L2-L4】`.
The filtered text has them as `[1][2]`. Not a marker: anything in code, `[1](…)`, which is a link, brackets with a zero
among several numbers, such as `[0-9]`, and `list[0]`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.rag.code_spans import CodeDetector

_NUMBER = r"\^?[0-9]{1,3}"
_JOINT = r" ?[,;–—-] ?"
_NOTE = r"†[^】\n]{0,24}"
_NUMBERS = rf"{_NUMBER}(?:{_JOINT}{_NUMBER}){{0,7}}"
_MARKER = re.compile(rf"([ \t]?)(?:\[({_NUMBERS})\]|【({_NUMBERS})(?:{_NOTE})?】)")
# Text that is a marker or may still become one.
_BEGINNING = re.compile(
    rf"[ \t]?(?:\[(?:{_NUMBER}{_JOINT}){{0,7}}(?:\^?|{_NUMBER}[ \]]?)"
    rf"|【(?:{_NUMBER}{_JOINT}){{0,7}}(?:\^?|{_NUMBER}[ 】]?|{_NUMBER}{_NOTE}】?))?"
)
_RANGE = re.compile(r"\^?([0-9]+)(?: ?[–—-] ?\^?([0-9]+))?")

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)  # in JSON
_ANY_MARKER = re.compile(r"\s?\[\d{1,4}\]")
_PLAIN = re.compile(r"\[([1-9][0-9]{0,2})\]")

_LIST_BEGIN = "\n\nSources:\n"
_ENTRY = re.compile(r"\[[0-9]{1,3}\] \[(?:[^\\\[\]\n]|\\.)*\]\([^\s()]*/documents/[0-9]+\?[^\s()]*\)")
_SPECIAL = re.compile(r"[\\\[\]]")


class Citation(NamedTuple):
    """A marker in the final text, `text[start:end]` in code points. `quote` is the source's sentence that supports the
    claim."""

    number: int
    start: int
    end: int
    quote: str | None = None


class MarkerFilter:
    """Filters the markers of one answer that cites the sources `numbers`.

    Holds back text that may still become a marker, and a marker until the character after it.
    """

    def __init__(self, numbers: frozenset[int]) -> None:
        self._numbers = numbers
        self._code = CodeDetector()
        self._held = ""
        self._before = ""  # the character before the held text
        self._length = 0  # of the text returned so far
        self.citations: list[Citation] = []

    @property
    def num_held(self) -> int:
        """The number of characters that are held back."""
        return len(self._held)

    @property
    def is_in_code(self) -> bool:
        """True while the text ends in code."""
        return self._code.is_code

    def feed(self, text: str, *, final: bool = False) -> str:
        """Return the text that is certain now. `final`: there is no more."""
        out = [self._take(character) for character in text]
        if final:
            out.append(self._release(""))
        return "".join(out)

    def _take(self, character: str) -> str:
        self._code.read(character)
        released = ""
        if self._held:
            if _BEGINNING.fullmatch(self._held + character):
                self._held += character
                return ""
            released = self._release(character)
        if character in " \t[【" and not self._code.is_code:
            self._held = character
            return released
        self._before = character
        self._length += 1
        return released + character

    def _release(self, following: str) -> str:
        """Return the held text, filtered, now that the character that follows it is known."""
        held, self._held = self._held, ""
        marker = _MARKER.fullmatch(held)
        released = held if marker is None else self._cite(marker, following)
        self._before = held[-1:]
        self._length += len(released)
        return released

    def _cite(self, marker: re.Match[str], following: str) -> str:
        space, ranges = marker[1], _ranges(marker[2] or marker[3])
        is_link = following == "(" and marker[2] is not None
        is_index = ranges == [(0, 0)] and not space and (self._before.isalnum() or self._before in tuple("_)]"))
        if not ranges or is_link or is_index:
            return marker[0]
        numbers = dict.fromkeys(n for first, last in ranges for n in sorted(self._numbers) if first <= n <= last)
        text = ""
        for number in numbers:
            start = self._length + len(space) + len(text)
            text += f"[{number}]"
            self.citations.append(Citation(number, start, start + len(f"[{number}]")))
        return space + text if text else ""


def _ranges(numbers: str) -> list[tuple[int, int]]:
    """Return the ranges of numbers in a marker, both ends included; none where it is no list of sources."""
    ranges = []
    for part in re.split("[,;]", numbers):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return []
        first, last = match[1], match[2] or match[1]
        if int(first) > int(last) or (numbers != "0" and (first[0] == "0" or last[0] == "0")):
            return []
        ranges.append((int(first), int(last)))
    return ranges


def citations_in_json(text: str, numbers: frozenset[int]) -> list[Citation]:
    """Return the citations of these sources in the strings of a JSON answer, whose text is not filtered."""
    return [
        Citation(int(marker[1]), string.start() + marker.start(), string.start() + marker.end())
        for string in _STRING.finditer(text)
        for marker in _PLAIN.finditer(string[0])
        if int(marker[1]) in numbers
    ]


def source_list(entries: Iterable[tuple[int, str, str]]) -> str:
    """Return the list of sources that follows an answer, for clients that show nothing but its text.

    An entry is a number, a label and a URL.
    """
    lines = [f"[{number}] [{_escape(label)}]({url})" for number, label, url in entries]
    return _LIST_BEGIN + "\n".join(lines)


def without_markers(text: str) -> str:
    """Return a text without its markers, whether they name a source or not."""
    return _ANY_MARKER.sub("", text)


def without_source_list(text: str) -> str:
    """Return an answer that a client sends back, without the list of sources that follows it."""
    answer, begin, entries = text.rpartition(_LIST_BEGIN)
    is_list = begin and all(_ENTRY.fullmatch(line) for line in entries.rstrip().split("\n"))
    return answer if is_list else text


def _escape(label: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", " ".join(label.split()))


def cited_numbers(citations: Sequence[Citation]) -> list[int]:
    """Return the numbers of the sources that are cited, each once, ascending."""
    return sorted({citation.number for citation in citations})
