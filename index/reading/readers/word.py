"""DOCX, parsed by python-docx: headings by their styles, paragraphs, lists and tables in the document's order."""

import io
import re

import docx
from docx.table import Table
from docx.text.paragraph import Paragraph

from index.reading.readers.archive import open_archive
from index.reading.readers.canonical import CanonicalText, one_line
from index.types import ParsedDocument

_HEADING = re.compile(r"heading (\d)\Z", re.IGNORECASE)


def read(content: bytes, suffix: str) -> ParsedDocument:
    open_archive(content)
    document = docx.Document(io.BytesIO(content))
    canonical = CanonicalText()
    title = document.core_properties.title
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            _add_table(canonical, item)
            continue
        depth = _depth(item)
        if depth is None:
            canonical.add_text(_mark(item) + item.text)
        else:
            canonical.add_heading(depth, item.text)
            title = title or one_line(item.text)
    return canonical.finish(title)


def _depth(paragraph: Paragraph) -> int | None:
    """Return the depth of a heading, or None for another paragraph."""
    style = paragraph.style
    for _ in range(8):  # styles are based on styles, in a damaged file in a circle
        if style is None:
            return None
        name = style.name or ""
        if name.lower() == "title":
            return 1
        if match := _HEADING.match(name):
            return int(match[1])
        style = style.base_style
    return None


def _mark(paragraph: Paragraph) -> str:
    name = (paragraph.style.name or "") if paragraph.style is not None else ""
    return "- " if name.startswith("List") and paragraph.text.strip() else ""


def _add_table(canonical: CanonicalText, table: Table) -> None:
    rows = []
    for row in table.rows:
        cells = []
        last = None
        for cell in row.cells:
            if cell._tc is not last:  # a merged cell is repeated by python-docx
                cells.append(cell.text)
            last = cell._tc
        rows.append((cells, None))
    canonical.add_table(rows, has_header=len(rows) > 1)
