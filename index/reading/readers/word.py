"""DOCX by python-docx: headings by their styles, paragraphs, lists and tables in the order of the document."""

import io
import re

import docx
from docx.table import Table
from docx.text.paragraph import Paragraph

from index.reading.readers.archive import open_archive
from index.reading.readers.canonical import Canonical, one_line
from index.types import Parsed

_HEADING = re.compile(r"heading (\d)\Z", re.IGNORECASE)


def read(content: bytes, suffix: str) -> Parsed:
    open_archive(content)
    document = docx.Document(io.BytesIO(content))
    canonical = Canonical()
    title = document.core_properties.title
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            _add_table(canonical, item)
            continue
        depth = _depth(item)
        if depth is None:
            canonical.text(_mark(item) + item.text)
        else:
            canonical.heading(depth, item.text)
            title = title or one_line(item.text)
    return canonical.parsed(title)


def _depth(paragraph: Paragraph) -> int | None:
    """Of a heading; None for what is none."""
    style = paragraph.style
    for _ in range(8):  # styles based on styles; a file can name a circle
        if style is None:
            return None
        name = style.name or ""
        if name.lower() == "title":
            return 1
        if found := _HEADING.match(name):
            return int(found[1])
        style = style.base_style
    return None


def _mark(paragraph: Paragraph) -> str:
    name = (paragraph.style.name or "") if paragraph.style is not None else ""
    return "- " if name.startswith("List") and paragraph.text.strip() else ""


def _add_table(canonical: Canonical, table: Table) -> None:
    rows = []
    for row in table.rows:
        cells = []
        last = None
        for cell in row.cells:
            if cell._tc is not last:  # a merged cell is told once
                cells.append(cell.text)
            last = cell._tc
        rows.append((cells, None))
    canonical.table(rows, has_header=len(rows) > 1)
