"""The contract of every reader. A new format adds a line to `FORMATS` and a sample here."""

import inspect
from pathlib import Path

import pytest

from index.errors import UnreadableDocument
from index.reading.base import FileReader
from index.reading.readers import FORMATS, format_of, is_readable, load_reader
from index.types import ParsedDocument
from tests.index.samples import (
    TRAVEL,
    docx_of,
    eml_of,
    epub_of,
    html_of,
    ipynb_of,
    pdf_of,
    pptx_of,
    xlsx_of,
)

SAMPLES = {
    "markdown": ("a.md", b"# A\n\n| b |\n|---|\n| c |"),
    "text": ("a.txt", b"one\n\ntwo"),
    "rst": ("a.rst", b"Title\n=====\n\none\n"),
    "html": ("a.html", html_of(TRAVEL)),
    "pdf": ("a.pdf", pdf_of([TRAVEL])),
    "word": ("a.docx", docx_of(TRAVEL)),
    "slides": ("a.pptx", pptx_of(TRAVEL)),
    "sheets": ("a.xlsx", xlsx_of({"A": [("b", "c"), (1, 2)]})),
    "epub": ("a.epub", epub_of(TRAVEL)),
    "mail": ("a.eml", eml_of(TRAVEL)),
    "notebook": ("a.ipynb", ipynb_of(TRAVEL)),
    "delimited": ("a.csv", b"a,b\n1,2\n"),
    "structured": ("a.json", b'{"a": 1}'),
    "code": ("a.py", b"def run():\n    pass\n"),
}


def _read(module: str, content: bytes) -> ParsedDocument:
    path, _ = SAMPLES[module]
    return load_reader(format_of(path)).read(content, Path(path).suffix)


def test_every_format_has_a_sample_and_no_suffix_two_formats() -> None:
    assert SAMPLES.keys() == {format.module for format in FORMATS}
    suffixes = [suffix for format in FORMATS for suffix in format.suffixes.split()]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)


@pytest.mark.parametrize("module", SAMPLES)
def test_a_reader_has_the_protocol_s_function(module: str) -> None:
    path, _ = SAMPLES[module]
    assert is_readable(path.upper())
    assert format_of(path).module == module
    parameters = list(inspect.signature(FileReader.read).parameters)[1:]
    assert list(inspect.signature(load_reader(format_of(path)).read).parameters) == parameters


@pytest.mark.parametrize("module", SAMPLES)
def test_blocks_are_spans_of_the_text_in_order_and_apart(module: str) -> None:
    parsed, last = _read(module, SAMPLES[module][1]), 0
    assert parsed.blocks
    for block in parsed.blocks:
        assert last <= block.start < block.end <= len(parsed.text)
        assert parsed.text[block.start : block.end].strip()
        assert block.lead is None or 0 <= block.lead[0] <= block.lead[1] <= block.end
        last = block.end


@pytest.mark.parametrize("module", SAMPLES)
def test_a_file_reads_the_same_twice(module: str) -> None:
    content = SAMPLES[module][1]
    assert _read(module, content) == _read(module, content)


@pytest.mark.parametrize("module", SAMPLES)
@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"junk", b"\xff" * 100], ids=["empty", "zeros", "junk", "high"])
def test_any_content_is_read_or_refused_with_a_reason(module: str, content: bytes) -> None:
    try:
        parsed = _read(module, content)
    except UnreadableDocument as error:
        assert error.reason
    except Exception as error:
        if format_of(SAMPLES[module][0]).is_plain:
            raise AssertionError("a reader without native code knows its own failures") from error
    else:
        assert isinstance(parsed, ParsedDocument)
