"""Small files of every format, made of the same parts: headings, paragraphs and a table."""

import io
import json
import mailbox
import zipfile
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from html import escape
from pathlib import Path
from typing import NamedTuple

import docx
import xlsxwriter
from pptx import Presentation
from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    PageBreak,
    PageTemplate,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)


class Section(NamedTuple):
    heading: str
    paragraphs: Sequence[str]
    rows: Sequence[Sequence[str]] = ()  # the first is the header


TRAVEL = (
    Section("Travel", ["Employees book trains in second class.", "Flights need a reason."]),
    Section("Limits", ["Meals are paid."], [("City", "Hotel"), ("Bern", "120"), ("Wien", "90")]),
)


def docx_of(sections: Sequence[Section]) -> bytes:
    document = docx.Document()
    for section in sections:
        document.add_heading(section.heading, 1)
        for paragraph in section.paragraphs:
            document.add_paragraph(paragraph)
        if section.rows:
            table = document.add_table(0, len(section.rows[0]))
            for row in section.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
    return _save_to_bytes(document.save)


def pptx_of(sections: Sequence[Section]) -> bytes:
    """Return a presentation with a slide for each section; the last paragraph is the speaker's note."""
    presentation = Presentation()
    for section in sections:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = section.heading
        slide.placeholders[1].text = "\n".join(section.paragraphs[:-1])
        slide.notes_slide.notes_text_frame.text = "".join(section.paragraphs[-1:])
        if section.rows:
            shape = slide.shapes.add_table(len(section.rows), len(section.rows[0]), 0, 0, 1000, 1000)
            for y, row in enumerate(section.rows):
                for x, text in enumerate(row):
                    shape.table.cell(y, x).text = text
    return _save_to_bytes(presentation.save)


def xlsx_of(sheets: dict[str, Sequence[Sequence[object]]], first_row: int = 0) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"strings_to_formulas": False, "strings_to_urls": False}) as workbook:
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            for y, row in enumerate(rows, first_row):
                for x, cell in enumerate(row):
                    sheet.write_string(y, x, cell) if isinstance(cell, str) else sheet.write(y, x, cell)
    return file.getvalue()


def ods_of(name: str, rows: Sequence[Sequence[str]]) -> bytes:
    cells = ""
    for row in rows:
        paragraphs = [f"<text:p>{escape(cell)}</text:p>" for cell in row]
        row_cells = [f'<table:table-cell office:value-type="string">{text}</table:table-cell>' for text in paragraphs]
        cells += f"<table:table-row>{''.join(row_cells)}</table:table-row>"
    space = "urn:oasis:names:tc:opendocument:xmlns"
    return zip_parts({
        "mimetype": b"application/vnd.oasis.opendocument.spreadsheet",
        "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{space}:manifest:1.0"/>'.encode(),
        "content.xml": (
            f'<office:document-content xmlns:office="{space}:office:1.0" xmlns:table="{space}:table:1.0"'
            f' xmlns:text="{space}:text:1.0"><office:body><office:spreadsheet>'
            f'<table:table table:name="{name}">{cells}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>"
        ).encode(),
    })  # fmt: skip


def html_of(sections: Sequence[Section]) -> bytes:
    parts = ["<!doctype html><html><head><title>A page</title><style>p {}</style></head><body><nav>skip me</nav>"]
    for section in sections:
        parts.append(f"<h1>{escape(section.heading)}</h1>")
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
        rows = [
            "".join(f"<{'td' if y else 'th'}>{escape(c)}</{'td' if y else 'th'}>" for c in row)
            for y, row in enumerate(section.rows)
        ]
        parts.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>" if rows else "")
    return "".join([*parts, "<script>let x = 1</script></body></html>"]).encode()


def epub_of(sections: Sequence[Section]) -> bytes:
    """Return a book with a chapter for each section."""
    numbers = range(len(sections))
    items = "".join(f'<item id="c{i}" href="c%20{i}.xhtml" media-type="application/xhtml+xml"/>' for i in numbers)
    refs = "".join(f'<itemref idref="c{i}"/>' for i in numbers)
    return zip_parts({
        "META-INF/container.xml": (
            b'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
            b'<rootfiles><rootfile full-path="book/a.opf"/></rootfiles></container>'
        ),
        "book/a.opf": (
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
            f"<dc:title>The book</dc:title></metadata><manifest>{items}</manifest><spine>{refs}</spine></package>"
        ).encode(),
        **{f"book/c {i}.xhtml": html_of(sections[i : i + 1]) for i in numbers},
    })  # fmt: skip


def eml_of(sections: Sequence[Section]) -> bytes:
    return _message(sections).as_bytes()


def mbox_of(folder: Path, sections: Sequence[Section]) -> bytes:
    """Return a mailbox with a message for each section."""
    box = mailbox.mbox(folder / "box")
    for section in sections:
        box.add(_message([section]))
    box.close()
    return (folder / "box").read_bytes()


def _message(sections: Sequence[Section]) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = " ".join(sections[0].heading.split()) if sections else "none"
    message["From"] = "Ada <ada@example.org>"
    message.set_content("\n\n".join(paragraph for section in sections for paragraph in section.paragraphs))
    message.add_attachment(b"\0", maintype="application", subtype="octet-stream", filename="plan.bin")
    return message


def ipynb_of(sections: Sequence[Section]) -> bytes:
    cells: list[dict[str, object]] = []
    for section in sections:
        cells.append({"cell_type": "markdown", "source": [f"# {section.heading}\n", "\n", *section.paragraphs[:1]]})
        outputs = [{"output_type": "stream", "text": ["printed\n"]}]
        cells.append({"cell_type": "code", "source": "print('printed')", "outputs": outputs})
    return json.dumps({"nbformat": 4, "cells": cells}).encode()


_STYLES = getSampleStyleSheet()


def pdf_of(pages: Sequence[Sequence[Section]], *, password: str | None = None) -> bytes:
    """Return a PDF; a page without sections is a picture."""
    story: list[Flowable] = []
    for sections in pages:
        story += [part for section in sections for part in _flowables(section)] or [_picture()]
        story.append(PageBreak())
    file = io.BytesIO()
    encrypt = None if password is None else StandardEncryption(password)
    SimpleDocTemplate(file, encrypt=encrypt).build(story)
    return file.getvalue()


def _flowables(section: Section) -> list[Flowable]:
    """Return a page's content for reportlab: titles far larger than text, and ruled tables."""
    title = ParagraphStyle("title", _STYLES["Title"], alignment=0)
    parts: list[Flowable] = [Paragraph(escape(section.heading), title)]
    for paragraph in section.paragraphs:
        parts += [Paragraph(escape(paragraph), _STYLES["Normal"]), Spacer(0, 14)]
    if section.rows:
        parts.append(
            Table([list(row) for row in section.rows], colWidths=120, style=[("GRID", (0, 0), (-1, -1), 1, 0)])
        )
    return parts


def _picture() -> Flowable:
    drawing = Drawing(150, 150)
    drawing.add(Rect(10, 10, 100, 100))
    return drawing


def columns_of(paragraphs: Sequence[str]) -> bytes:
    """Return a PDF page in two columns."""
    story = [
        part for paragraph in paragraphs for part in (Paragraph(escape(paragraph), _STYLES["Normal"]), Spacer(0, 12))
    ]
    frames = [Frame(left, 72, 210, 650) for left in (72, 312)]
    file = io.BytesIO()
    document = BaseDocTemplate(file)
    document.addPageTemplates(PageTemplate(frames=frames))
    document.build(story)
    return file.getvalue()


def zip_parts(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _save_to_bytes(save: Callable[[io.BytesIO], None]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()
