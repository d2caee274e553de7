"""Canonical text for formats that are no text themselves, built block by block with headings and tables."""

import re
from collections.abc import Iterable, Sequence

from index.types import Block, Location, ParsedDocument

# Characters no text should hold: controls but tab and line feed, halves of surrogate pairs, and non-characters.
_INVALID = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """Return the text with \\n line ends, without characters that cannot be stored or shown."""
    return _INVALID.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str) -> str:
    """Return the text on one line, with single spaces."""
    return _SPACE.sub(" ", clean(text)).strip()


class CanonicalText:
    """Builds a document's text and blocks from its paragraphs, tables and headings, in order.

    An empty line parts two blocks; each row of a table has a line of its own. As in Markdown, a heading is a line of
    the text, and a block only when nothing follows it.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._headings: list[str] = []  # index = depth; "" where a level was skipped
        self._bare_heading: Block | None = None  # a heading that nothing has followed yet
        self._section = 0

    def start_section(self, *headings: str) -> None:
        """Put what follows under these headings, which are not part of the text, and apart from what came before."""
        self._flush_bare_heading()
        self._headings = [one_line(name) for name in headings]
        self._section += 1

    def add_heading(self, depth: int, name: str, place: Location | None = None) -> None:
        """Add a heading. `depth` counts from 1, the outermost."""
        name = one_line(name)
        if not name:
            return
        if depth <= len(self._headings):
            self._flush_bare_heading()
        self._bare_heading = None
        self._section += 1
        self._headings = [*self._headings[: depth - 1], *[""] * (depth - 1 - len(self._headings))]
        start, end = self._append(name)
        self._bare_heading = Block(start, end, self._heading_path(), self._section, place)
        self._headings.append(name)

    def add_text(self, text: str, place: Location | None = None) -> None:
        """Add a paragraph, a list, or code, with its own line breaks."""
        text = "\n".join(line.rstrip() for line in clean(text).split("\n")).strip("\n")
        if text.strip():
            start, end = self._append(text)
            self._add(Block(start, end, self._heading_path(), self._section, place))

    def add_table(self, rows: Iterable[tuple[Sequence[str], Location | None]], *, has_header: bool) -> None:
        """Add a table in Markdown, without the rows that have no text. Each row has its cells and its place."""
        lead: tuple[int, int] | None = None
        for cells, place in rows:
            row = "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"
            if not any(cell.strip() for cell in cells):
                continue
            is_header = lead is None and has_header
            text = f"{row}\n|{'---|' * len(cells)}" if is_header else row
            start, end = self._append(text, "\n\n" if lead is None else "\n")
            lead = lead or (start, end if is_header else start)
            self._add(Block(start, end, self._heading_path(), self._section, place, lead))

    def add_markdown(self, part: ParsedDocument, place: Location | None) -> None:
        """Add the text and blocks of a part that the Markdown reader has read, with its headings."""
        offset = self._append(part.text)[0]
        for block in part.blocks:
            lead = None if block.lead is None else (block.lead[0] + offset, block.lead[1] + offset)
            section = self._section + block.section
            moved = Block(block.start + offset, block.end + offset, block.heading, section, place, lead, block.is_prose)
            self._add(moved)
        self._section += max((block.section for block in part.blocks), default=0)

    def finish(self, title: str | None, notes: Sequence[str] = ()) -> ParsedDocument:
        """Return the document."""
        self._flush_bare_heading()
        return ParsedDocument("".join(self._parts), self._blocks, (title and one_line(title)) or None, tuple(notes))

    def _append(self, text: str, separator: str = "\n\n") -> tuple[int, int]:
        """Append to the text and return the span of what was appended."""
        if self._parts:
            self._parts.append(separator)
            self._length += len(separator)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start, self._length

    def _add(self, block: Block) -> None:
        self._bare_heading = None
        self._blocks.append(block)

    def _flush_bare_heading(self) -> None:
        if self._bare_heading is not None:
            self._blocks.append(self._bare_heading)
            self._bare_heading = None

    def _heading_path(self) -> tuple[str, ...]:
        return tuple(name for name in self._headings if name)
