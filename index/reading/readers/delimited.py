"""CSV and TSV: the file's own lines; every row a block under the first one, if that is a header."""

import csv
import itertools

from index.reading.lines import line_starts
from index.reading.readers.text import decode, read_plain
from index.types import Block, Location, Parsed

_SAMPLE = 1 << 16  # characters
_DELIMITERS = ",;\t|"


def read(content: bytes, suffix: str) -> Parsed:
    return read_delimited(decode(content), "\t" if suffix in (".tsv", ".tab") else None)


def read_delimited(text: str, delimiter: str | None) -> Parsed:
    """`delimiter` None: found out. What the rules of CSV cannot cut is plain text."""
    try:
        rows = _rows(text, delimiter or _delimiter(text))
    except csv.Error:
        return read_plain(text)
    if not rows:
        return Parsed(text, [], None)
    first_start, first_end, _, first = rows[0]
    has_header = len(rows) > 1 and len(first) > 1 and _is_header(first)
    lead = first_start, (first_end if has_header else first_start)
    return Parsed(
        text,
        [Block(start, end, (), 0, Location("row", number, number), lead) for start, end, number, _ in rows],
        None,
    )


def _delimiter(text: str) -> str:
    try:
        return csv.Sniffer().sniff(text[: text.rfind("\n", 0, _SAMPLE) + 1] or text[:_SAMPLE], _DELIMITERS).delimiter
    except csv.Error:
        return ","


def _rows(text: str, delimiter: str) -> list[tuple[int, int, int, list[str]]]:
    """Span, number and cells of every row with something in it. A quoted cell can hold line breaks."""
    starts = [*line_starts(text), len(text)]
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # of the whole process, so it is never lowered
    lines = (text[start:end] for start, end in itertools.pairwise(starts))
    reader = csv.reader(lines, delimiter=delimiter, strict=False)
    rows: list[tuple[int, int, int, list[str]]] = []
    line = 0
    for number, cells in enumerate(reader, 1):
        start, end = starts[line], starts[min(reader.line_num, len(starts) - 1)]
        line = reader.line_num
        end = start + len(text[start:end].rstrip())
        start += len(text[start:end]) - len(text[start:end].lstrip(" \n"))
        if start < end and any(cell.strip() for cell in cells):
            rows.append((start, end, number, cells))
    return rows


def _is_header(cells: list[str]) -> bool:
    """Names: most cells filled, and none a number."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return 2 * len(filled) >= len(cells) and not any(_is_number(cell) for cell in filled)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace(",", "", 1).replace("-", "", 1).isdecimal()
