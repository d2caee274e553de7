"""Markers in an answer: those that name no source are removed while the text streams; the others become citations.

A marker is a number from 1 to 999 in brackets, or several: `[1]`, `[^1]`, `[1, 2]`, `[1-3]`, `【1】`, `【1†L2-L4】`.
What leaves is always of the form `[1][2]`. No marker is what stands in code, `[1](…)`, which is a link, brackets with a
zero among several numbers, such as `[0-9]`, and `list[0]`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.rag.code_spans import CodeReader

_NUMBER = r"\^?[0-9]{1,3}"
_JOINT = r" ?[,;–—-] ?"
_NOTE = r"†[^】\n]{0,24}"
_LISTED = rf"{_NUMBER}(?:{_JOINT}{_NUMBER}){{0,7}}"
_MARKER = re.compile(rf"([ \t]?)(?:\[({_LISTED})\]|【({_LISTED})(?:{_NOTE})?】)")
# What may still become a marker, or is one.
_BEGINNING = re.compile(
    rf"[ \t]?(?:\[(?:{_NUMBER}{_JOINT}){{0,7}}(?:\^?|{_NUMBER}[ \]]?)"
    rf"|【(?:{_NUMBER}{_JOINT}){{0,7}}(?:\^?|{_NUMBER}[ 】]?|{_NUMBER}{_NOTE}】?))?"
)
_RANGE = re.compile(r"\^?([0-9]+)(?: ?[–—-] ?\^?([0-9]+))?")

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)  # in JSON
_PLAIN = re.compile(r"\[([1-9][0-9]{0,2})\]")

_LIST_BEGIN = "\n\nSources:\n"
_ENTRY = re.compile(r"\[[0-9]{1,3}\] \[(?:[^\\\[\]\n]|\\.)*\]\([^\s()]*/documents/[0-9]+\?[^\s()]*\)")
_SPECIAL = re.compile(r"[\\\[\]]")


class Citation(NamedTuple):
    """A marker in the final text: `text[start:end]`, code points. `quote`: what of the source supports the sentence."""

    number: int
    start: int
    end: int
    quote: str | None = None


class MarkerFilter:
    """For one answer. Holds back only what could still be a marker, and a marker until the character after it."""

    def __init__(self, numbers: frozenset[int]) -> None:
        self._numbers = numbers
        self._code = CodeReader()
        self._held = ""
        self._before = ""  # the character before what is held
        self._length = 0  # of the text given out
        self.citations: list[Citation] = []

    @property
    def num_held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    @property
    def is_in_code(self) -> bool:
        return self._code.is_code

    def feed(self, text: str, *, final: bool = False) -> str:
        out = [self._take(character) for character in text]
        if final:
            out.append(self._settle(""))
        return "".join(out)

    def _take(self, character: str) -> str:
        self._code.read(character)
        given = ""
        if self._held:
            if _BEGINNING.fullmatch(self._held + character):
                self._held += character
                return ""
            given = self._settle(character)
        if character in " \t[【" and not self._code.is_code:
            self._held = character
            return given
        self._before = character
        self._length += 1
        return given + character

    def _settle(self, following: str) -> str:
        """What is held, now that it is known what follows it."""
        held, self._held = self._held, ""
        found = _MARKER.fullmatch(held)
        given = held if found is None else self._cited(found, following)
        self._before = held[-1:]
        self._length += len(given)
        return given

    def _cited(self, marker: re.Match[str], following: str) -> str:
        space, named = marker[1], _named(marker[2] or marker[3])
        is_link = following == "(" and marker[2] is not None
        is_index = named == [(0, 0)] and not space and (self._before.isalnum() or self._before in tuple("_)]"))
        if not named or is_link or is_index:
            return marker[0]
        numbers = dict.fromkeys(n for first, last in named for n in sorted(self._numbers) if first <= n <= last)
        text = ""
        for number in numbers:
            start = self._length + len(space) + len(text)
            text += f"[{number}]"
            self.citations.append(Citation(number, start, start + len(f"[{number}]")))
        return space + text if text else ""


def _named(listed: str) -> list[tuple[int, int]]:
    """Numbers first to last, both in; none where it is no list of sources."""
    named = []
    for part in re.split("[,;]", listed):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            return []
        first, last = found[1], found[2] or found[1]
        if int(first) > int(last) or (listed != "0" and (first[0] == "0" or last[0] == "0")):
            return []
        named.append((int(first), int(last)))
    return named


def citations_in_json(text: str, numbers: frozenset[int]) -> list[Citation]:
    """Markers of these sources in the strings of an answer that is JSON, which is left as it is."""
    return [
        Citation(int(marker[1]), string.start() + marker.start(), string.start() + marker.end())
        for string in _STRING.finditer(text)
        for marker in _PLAIN.finditer(string[0])
        if int(marker[1]) in numbers
    ]


def source_list(entries: Iterable[tuple[int, str, str]]) -> str:
    """What is put behind an answer for clients that show nothing but its text. An entry: number, label, URL."""
    lines = [f"[{number}] [{_escaped(label)}]({url})" for number, label, url in entries]
    return _LIST_BEGIN + "\n".join(lines)


def without_source_list(text: str) -> str:
    """An answer that a client sends back, without the list of sources that was put behind it."""
    told, begin, entries = text.rpartition(_LIST_BEGIN)
    is_list = begin and all(_ENTRY.fullmatch(line) for line in entries.rstrip().split("\n"))
    return told if is_list else text


def _escaped(label: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", " ".join(label.split()))


def cited_numbers(citations: Sequence[Citation]) -> list[int]:
    """Each once, ascending."""
    return sorted({citation.number for citation in citations})
