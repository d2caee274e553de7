"""Spreadsheets, parsed by calamine: XLSX, XLSM, XLS and ODS, sheet by sheet, row by row; formulas as their values."""

import datetime
import io
from collections.abc import Sequence
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError

from index.errors import UnreadableDocument
from index.reading.readers.archive import open_archive
from index.reading.readers.canonical import CanonicalText
from index.types import Location, ParsedDocument

_MAX_CELLS = 5_000_000
_MAX_WIDTH = 16_384  # columns a sheet can have


def read(content: bytes, suffix: str) -> ParsedDocument:
    if suffix != ".xls":
        open_archive(content)
    canonical = CanonicalText()
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
        for name in workbook.sheet_names:
            _add_sheet(canonical, name, workbook)
    except PasswordError as error:
        raise UnreadableDocument("the spreadsheet is encrypted") from error
    except CalamineError as error:
        raise UnreadableDocument(f"the spreadsheet is damaged ({error})") from error
    return canonical.finish(None)


def _add_sheet(canonical: CanonicalText, name: str, workbook: CalamineWorkbook) -> None:
    sheet = workbook.get_sheet_by_name(name)
    if sheet.height * min(sheet.width, _MAX_WIDTH) > _MAX_CELLS:
        raise UnreadableDocument(f"the sheet {name} has more than {_MAX_CELLS:,} cells")
    first = (sheet.start or (0, 0))[0] + 1
    rows = [
        (_row_texts(cells), Location("sheet", number, number, name))
        for number, cells in enumerate(sheet.to_python(skip_empty_area=True), first)
    ]
    rows = [(cells, place) for cells, place in rows if any(cells)]
    canonical.start_section(name)
    canonical.add_table(rows, has_header=len(rows) > 1 and _is_header(rows[0][0], rows[1][0]))


def _row_texts(cells: Sequence[Any]) -> list[str]:
    """Return the texts of a row, without the empty cells at its end."""
    texts = [_cell_text(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _cell_text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    return str(value)


def _is_header(first: list[str], second: list[str]) -> bool:
    """Return whether the first row names columns: every cell is filled, none is a number, and none is missing."""
    return all(first) and len(first) >= len(second) and not any(_is_number(cell) for cell in first)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).isdecimal()
