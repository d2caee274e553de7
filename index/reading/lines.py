"""Line numbers of character offsets, and hard-wrapped paragraphs. Lines end with \\n and with nothing else."""

import re
from typing import NamedTuple

_NEWLINE = re.compile("\n")
# A line break inside a paragraph: after a line that was full, before one that begins no item, row, heading or fence.
_WRAP = re.compile(r"(?<=\S)[ \t]*\n[ \t]*(?=\S)(?![-*+] |\d+[.)] |[|#>]|```)")
_FULL_LINE = 60  # characters


class UnwrappedText(NamedTuple):
    """A text with fewer line breaks; `origin[i]` is the offset of `text[i]` in the text before."""

    text: str
    origin: list[int]


def line_starts(text: str) -> list[int]:
    """Return the offset of every line's first character."""
    return [0, *(newline.end() for newline in _NEWLINE.finditer(text))]


def unwrap(text: str) -> UnwrappedText:
    """Return the text with each hard-wrapped paragraph on one line."""
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
    return UnwrappedText("".join(parts), origin)
