"""CSV and TSV: the text is the file's own, and every row a block under the header, if the first row is one."""

import csv
import itertools
from typing import NamedTuple

from index.reading.lines import line_starts
from index.reading.readers.text import decode, read_plain
from index.types import Block, Location, ParsedDocument

_SAMPLE_CHARACTERS = 1 << 16  # by which the delimiter is guessed
_DELIMITERS = ",;\t|"


class _Row(NamedTuple):
    start: int
    end: int
    number: int  # from 1, as the file counts its rows
    cells: list[str]


def read(content: bytes, suffix: str) -> ParsedDocument:
    return read_delimited(decode(content), "\t" if suffix in (".tsv", ".tab") else None)


def read_delimited(text: str, delimiter: str | None) -> ParsedDocument:
    """Read rows; `delimiter` None is guessed. A text that the rules of CSV cannot cut is plain text."""
    try:
        rows = _rows(text, delimiter or _guess_delimiter(text))
    except csv.Error:
        return read_plain(text)
    if not rows:
        return ParsedDocument(text, [], None)
    first = rows[0]
    has_header = len(rows) > 1 and len(first.cells) > 1 and _is_header(first.cells)
    lead = first.start, (first.end if has_header else first.start)
    blocks = [Block(row.start, row.end, (), 0, Location("row", row.number, row.number), lead) for row in rows]
    return ParsedDocument(text, blocks, None)


def _guess_delimiter(text: str) -> str:
    try:
        sample = text[: text.rfind("\n", 0, _SAMPLE_CHARACTERS) + 1] or text[:_SAMPLE_CHARACTERS]
        return csv.Sniffer().sniff(sample, _DELIMITERS).delimiter
    except csv.Error:
        return ","


def _rows(text: str, delimiter: str) -> list[_Row]:
    """Return every row with something in it. A quoted cell can hold line breaks, so a row can span several lines."""
    starts = [*line_starts(text), len(text)]
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # the whole process's, so it is never lowered
    lines = (text[start:end] for start, end in itertools.pairwise(starts))
    reader = csv.reader(lines, delimiter=delimiter, strict=False)
    rows: list[_Row] = []
    line = 0
    for number, cells in enumerate(reader, 1):
        start, end = starts[line], starts[min(reader.line_num, len(starts) - 1)]
        line = reader.line_num
        end = start + len(text[start:end].rstrip())
        start += len(text[start:end]) - len(text[start:end].lstrip(" \n"))
        if start < end and any(cell.strip() for cell in cells):
            rows.append(_Row(start, end, number, cells))
    return rows


def _is_header(cells: list[str]) -> bool:
    """Return whether these are names of columns: most cells are filled, and none is a number."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return 2 * len(filled) >= len(cells) and not any(_is_number(cell) for cell in filled)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace(",", "", 1).replace("-", "", 1).isdecimal()
