"""Canonical text for formats that are no text themselves: written block by block, headings and tables with it."""

import re
from collections.abc import Iterable, Sequence

from index.types import Block, Location, Parsed

# What no text should hold: controls but tab and line feed, halves of surrogate pairs, and non-characters.
_UNWANTED = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """With \\n line ends and nothing that cannot be stored or shown."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str) -> str:
    return _SPACE.sub(" ", clean(text)).strip()


class Canonical:
    """Grows by paragraphs, tables and headings; blocks stand an empty line apart, a table's rows on lines of their own.

    As in Markdown, a heading is a line of the text and a block only when nothing follows it.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._headings: list[str] = []  # index = depth; "" where a level was skipped
        self._bare: Block | None = None  # a heading that nothing has followed yet
        self._section = 0

    def section(self, *headings: str) -> None:
        """What follows stands under these headings, which are not part of the text, and apart from what came before."""
        self._settle_bare()
        self._headings = [one_line(name) for name in headings]
        self._section += 1

    def heading(self, depth: int, name: str, place: Location | None = None) -> None:
        """`depth` counts from 1, the outermost."""
        name = one_line(name)
        if not name:
            return
        if depth <= len(self._headings):
            self._settle_bare()
        self._bare = None
        self._section += 1
        self._headings = [*self._headings[: depth - 1], *[""] * (depth - 1 - len(self._headings))]
        start, end = self._append(name)
        self._bare = Block(start, end, self._path(), self._section, place)
        self._headings.append(name)

    def text(self, text: str, place: Location | None = None) -> None:
        """A paragraph, a list, or code; its own line breaks stay."""
        text = "\n".join(line.rstrip() for line in clean(text).split("\n")).strip("\n")
        if text.strip():
            start, end = self._append(text)
            self._add(Block(start, end, self._path(), self._section, place))

    def table(self, rows: Iterable[tuple[Sequence[str], Location | None]], *, has_header: bool) -> None:
        """Cells as a Markdown table; rows without any text are left out."""
        lead: tuple[int, int] | None = None
        for cells, place in rows:
            row = "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"
            if not any(cell.strip() for cell in cells):
                continue
            is_header = lead is None and has_header
            text = f"{row}\n|{'---|' * len(cells)}" if is_header else row
            start, end = self._append(text, "\n\n" if lead is None else "\n")
            lead = lead or (start, end if is_header else start)
            self._add(Block(start, end, self._path(), self._section, place, lead))

    def parsed_markdown(self, part: Parsed, place: Location | None) -> None:
        """Takes over the text and blocks of a part that was Markdown, with its headings."""
        offset = self._append(part.text)[0]
        for block in part.blocks:
            lead = None if block.lead is None else (block.lead[0] + offset, block.lead[1] + offset)
            section = self._section + block.section
            moved = Block(block.start + offset, block.end + offset, block.heading, section, place, lead, block.is_prose)
            self._add(moved)
        self._section += max((block.section for block in part.blocks), default=0)

    def parsed(self, title: str | None, notes: Sequence[str] = ()) -> Parsed:
        self._settle_bare()
        return Parsed("".join(self._parts), self._blocks, (title and one_line(title)) or None, tuple(notes))

    def _append(self, text: str, separator: str = "\n\n") -> tuple[int, int]:
        if self._parts:
            self._parts.append(separator)
            self._length += len(separator)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start, self._length

    def _add(self, block: Block) -> None:
        self._bare = None
        self._blocks.append(block)

    def _settle_bare(self) -> None:
        if self._bare is not None:
            self._blocks.append(self._bare)
            self._bare = None

    def _path(self) -> tuple[str, ...]:
        return tuple(name for name in self._headings if name)
