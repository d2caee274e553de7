"""Jupyter notebooks, cell by cell: Markdown cells under their headings, code cells with their output."""

import json
from collections.abc import Iterator
from typing import Any

from index.errors import UnreadableDocument
from index.reading.readers.canonical import CanonicalText, clean
from index.reading.readers.markdown import read_markdown
from index.reading.readers.text import decode
from index.types import Location, ParsedDocument

_MAX_OUTPUT = 4000  # characters of a cell's output; a longer one is a log, not a result


def read(content: bytes, suffix: str) -> ParsedDocument:
    try:
        notebook = json.loads(decode(content))
    except ValueError as error:
        raise UnreadableDocument(f"the notebook is not JSON ({error})") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise UnreadableDocument("it is not a notebook of version 4: it has no list of cells")
    canonical = CanonicalText()
    headings: list[str] = []
    title: str | None = None
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            continue
        place = Location("cell", number, number)
        source = clean(_join_lines(cell.get("source")))
        if cell.get("cell_type") == "markdown":
            part = read_markdown(source, headings)
            canonical.start_section()
            canonical.add_markdown(part, place)
            title = title or part.title
        else:
            canonical.start_section(*headings)
            canonical.add_text(source, place)
            for output in _outputs(cell):
                canonical.add_text(clean(output)[:_MAX_OUTPUT], place)
    return canonical.finish(title)


def _join_lines(source: Any) -> str:
    """Return a text that the notebook has as a string or as a list of lines."""
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def _outputs(cell: dict[str, Any]) -> Iterator[str]:
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, dict):
            shown = output.get("data")
            yield _join_lines(output.get("text") or (shown.get("text/plain") if isinstance(shown, dict) else None))
