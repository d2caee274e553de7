"""reStructuredText: titles are known by their adornment, with paragraphs and indented bodies under them."""

import re

from index.reading.lines import line_starts
from index.reading.readers.text import decode
from index.types import Block, ParsedDocument

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*\s*\Z")
_PARAGRAPH = re.compile(r"\S(?:.*\S)?(?:\n.*\S.*)*")


def read(content: bytes, suffix: str) -> ParsedDocument:
    return read_rst(decode(content))


def read_rst(text: str) -> ParsedDocument:
    lines = text.split("\n")
    starts = line_starts(text)
    styles: list[str] = []  # adornments in the order of their first use; the index is the depth
    headings: list[str] = []
    blocks: list[Block] = []
    title: str | None = None
    at = body = section = 0

    def close(end: int) -> None:
        """Add the lines from `body` up to `end` as paragraphs under the headings so far."""
        stop = starts[end] if end < len(lines) else len(text)
        path = tuple(name for name in headings if name)
        for match in _PARAGRAPH.finditer(text, starts[body] if body < len(lines) else len(text), stop):
            blocks.append(Block(match.start(), match.end(), path, section, is_prose=True))

    while at < len(lines):
        heading = _title(lines, at)
        if heading is None:
            at += 1
            continue
        style, name, size = heading
        close(at)
        if style not in styles:
            styles.append(style)
        depth = styles.index(style)
        has_body = any(line.strip() for line in _body(lines, at + size))
        headings[depth:] = [*[""] * (depth - len(headings)), name]
        title = title or name
        section += 1
        if not has_body:
            start, end = starts[at], starts[at + size - 1] + len(lines[at + size - 1].rstrip())
            lead = len(text[start:end]) - len(text[start:end].lstrip())
            blocks.append(Block(start + lead, end, tuple(each for each in headings[:-1] if each), section))
        at = body = at + size
    close(len(lines))
    return ParsedDocument(text, blocks, title)


def _title(lines: list[str], at: int) -> tuple[str, str, int] | None:
    """Return the style, the words and the number of lines of the title that begins at this line, or None."""
    if at and lines[at - 1].strip():
        return None
    one, two, three = (lines[at + i].rstrip() if at + i < len(lines) else "" for i in range(3))
    if _is_adornment(one) and two.strip() and three == one and len(one) >= len(two):
        return f"{one[0]}{one[0]}", two.strip(), 3
    if one and not one[0].isspace() and _is_adornment(two) and len(two) >= len(one) and not _is_adornment(one):
        return two[0], one, 2
    return None


def _is_adornment(line: str) -> bool:
    return len(line) >= 2 and _ADORNMENT.match(line) is not None


def _body(lines: list[str], at: int) -> list[str]:
    """Return the lines from here to the next title."""
    end = at
    while end < len(lines) and _title(lines, end) is None:
        end += 1
    return lines[at:end]
