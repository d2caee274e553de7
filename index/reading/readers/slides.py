"""PPTX, parsed by python-pptx: slide by slide, with tables and the speaker's notes."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from pptx import Presentation

from index.reading.readers.archive import open_archive
from index.reading.readers.canonical import CanonicalText, one_line
from index.types import Location, ParsedDocument


def read(content: bytes, suffix: str) -> ParsedDocument:
    open_archive(content)
    presentation = Presentation(io.BytesIO(content))
    canonical = CanonicalText()
    title: str | None = presentation.core_properties.title
    for number, slide in enumerate(presentation.slides, 1):
        place = Location("slide", number, number)
        canonical.start_section()
        head = slide.shapes.title
        if head is not None and head.has_text_frame and one_line(head.text_frame.text):
            canonical.add_heading(1, head.text_frame.text, place)
            title = title or one_line(head.text_frame.text)
        for shape in _shapes(slide.shapes):
            if head is None or shape.shape_id != head.shape_id:
                _add_shape(canonical, shape, place)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = slide.notes_slide.notes_text_frame.text
            canonical.add_text(f"Notes: {notes}" if notes.strip() else "", place)
    return canonical.finish(title)


def _shapes(shapes: Iterable[Any]) -> Iterator[Any]:
    """Yield the shapes, also those in groups. python-pptx has no types for them."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _add_shape(canonical: CanonicalText, shape: Any, place: Location) -> None:
    if getattr(shape, "has_table", False):
        rows = [([cell.text_frame.text for cell in row.cells], place) for row in shape.table.rows]
        canonical.add_table(rows, has_header=len(rows) > 1)
    elif shape.has_text_frame:
        lines = [f"{'  ' * each.level}{one_line(each.text)}" for each in shape.text_frame.paragraphs]
        canonical.add_text("\n".join(line for line in lines if line.strip()), place)
