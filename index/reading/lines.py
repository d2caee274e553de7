"""Character offsets to line numbers, and lines that an editor wrapped. A line ends with \\n and with nothing else."""

import re
from typing import NamedTuple

_NEWLINE = re.compile("\n")
# A line break inside a paragraph: after a line that was full, before one that begins no item, row, heading or fence.
_WRAP = re.compile(r"(?<=\S)[ \t]*\n[ \t]*(?=\S)(?![-*+] |\d+[.)] |[|#>]|```)")
_FULL_LINE = 60  # characters


class Unwrapped(NamedTuple):
    """`origin[i]` is where `text[i]` stood."""

    text: str
    origin: list[int]


def line_starts(text: str) -> list[int]:
    """Offset of every line's first character."""
    return [0, *(newline.end() for newline in _NEWLINE.finditer(text))]


def unwrapped(text: str) -> Unwrapped:
    """The text with the paragraphs of hard-wrapped files in one line each."""
    parts: list[str] = []
    origin: list[int] = []
    at = 0
    for wrap in _WRAP.finditer(text):
        if wrap.start() - (text.rfind("\n", 0, wrap.start()) + 1) < _FULL_LINE:
            continue
        parts += [text[at : wrap.start()], " "]
        origin += range(at, wrap.start() + 1)
        at = wrap.end()
    parts.append(text[at:])
    origin += range(at, len(text))
    return Unwrapped("".join(parts), origin)
