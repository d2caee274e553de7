"""Each reader on a file of its format: text, headings, places, tables, notes and reasons."""

import json
from pathlib import Path

import pytest

from index.errors import UnreadableDocument
from index.reading.readers import read
from index.types import Location, ParsedDocument
from tests.index.samples import (
    TRAVEL,
    Section,
    columns_of,
    docx_of,
    eml_of,
    epub_of,
    html_of,
    ipynb_of,
    mbox_of,
    ods_of,
    pdf_of,
    pptx_of,
    xlsx_of,
    zip_parts,
)

_TABLE = ["| City | Hotel |\n|---|---|", "| Bern | 120 |", "| Wien | 90 |"]


def describe_blocks(parsed: ParsedDocument) -> list[tuple[tuple[str, ...], str | None, str]]:
    """Return the heading, the place and the text of every block."""
    return [(b.heading, b.place and b.place.label, parsed.text[b.start : b.end]) for b in parsed.blocks]


def block_texts(parsed: ParsedDocument) -> list[str]:
    return [text for _, _, text in describe_blocks(parsed)]


def block_leads(parsed: ParsedDocument) -> list[str | None]:
    return [None if b.lead is None else parsed.text[slice(*b.lead)] for b in parsed.blocks]


@pytest.mark.parametrize(("suffix", "content"), [(".docx", docx_of(TRAVEL)), (".html", html_of(TRAVEL))])
def test_headings_paragraphs_and_tables_come_in_order(suffix: str, content: bytes) -> None:
    parsed = read(f"a{suffix}", content)
    assert describe_blocks(parsed) == [
        (("Travel",), None, "Employees book trains in second class."),
        (("Travel",), None, "Flights need a reason."),
        (("Limits",), None, "Meals are paid."),
        *((("Limits",), None, row) for row in _TABLE),
    ]
    assert block_leads(parsed)[3:] == [_TABLE[0]] * 3
    assert "let x" not in parsed.text
    assert "skip me" not in parsed.text


def test_a_pdf_is_read_by_page_with_its_table() -> None:
    parsed = read("a.pdf", pdf_of([TRAVEL[:1], [], TRAVEL[1:]]))
    assert describe_blocks(parsed)[0] == (
        ("Travel",),
        "p. 1",
        "Employees book trains in second class. Flights need a reason.",
    )
    assert describe_blocks(parsed)[-1] == (("Limits",), "p. 3", "| Wien | 90 |")
    assert block_leads(parsed)[-1] == _TABLE[0]
    assert parsed.notes == ("page 2 has no text layer",)
    assert parsed.title == "Travel"


def test_every_page_of_a_long_pdf_is_read() -> None:
    parsed = read("a.pdf", pdf_of([[Section(f"Heading {number}", ["words"])] for number in range(1100)]))
    assert parsed.blocks[-1].place == Location("page", 1100, 1100)


def test_the_columns_of_a_page_are_read_one_after_the_other() -> None:
    paragraphs = [f"Paragraph {n} says that meals above forty euros need a receipt and a signature." for n in range(40)]
    words = " ".join(read("a.pdf", columns_of(paragraphs)).text.split())
    places = [words.index(f"Paragraph {n} ") for n in range(40)]
    assert places == sorted(places)
    assert paragraphs[3] in words


def test_slides_have_their_number_notes_and_tables() -> None:
    assert describe_blocks(read("a.pptx", pptx_of(TRAVEL))) == [
        (("Travel",), "slide 1", "Employees book trains in second class."),
        (("Travel",), "slide 1", "Notes: Flights need a reason."),
        *((("Limits",), "slide 2", row) for row in _TABLE),
        (("Limits",), "slide 2", "Notes: Meals are paid."),
    ]


def test_sheet_rows_have_the_name_of_their_sheet_and_their_number() -> None:
    rows = [("City", "Hotel"), ("Bern", 120), (), ("Wien", 90.5, "x|y")]
    parsed = read("a.xlsx", xlsx_of({"Budget": rows, "Empty": [], "Other": [(1, 2)]}, first_row=3))
    assert describe_blocks(parsed) == [
        (("Budget",), "Budget, row 4", _TABLE[0]),
        (("Budget",), "Budget, row 5", "| Bern | 120 |"),
        (("Budget",), "Budget, row 7", "| Wien | 90.5 | x\\|y |"),
        (("Other",), "Other, row 4", "| 1 | 2 |"),
    ]
    assert block_leads(parsed) == [_TABLE[0]] * 3 + [""]


def test_an_ods_file_is_read_like_an_xlsx_file() -> None:
    parsed = read("a.ods", ods_of("Plan", TRAVEL[1].rows))
    assert [place for _, place, _ in describe_blocks(parsed)] == ["Plan, row 1", "Plan, row 2", "Plan, row 3"]
    assert block_texts(parsed) == _TABLE


def test_an_epub_is_read_by_chapter() -> None:
    parsed = read("a.epub", epub_of(TRAVEL))
    assert parsed.title == "The book"
    assert describe_blocks(parsed)[0] == (("Travel",), "chapter 1", "Employees book trains in second class.")
    assert describe_blocks(parsed)[-1] == (("Limits",), "chapter 2", "| Wien | 90 |")


def test_a_mail_message_has_its_subject_sender_and_attachments() -> None:
    parsed = read("a.eml", eml_of(TRAVEL))
    assert parsed.title == "Travel"
    assert block_texts(parsed) == [
        "From: Ada <ada@example.org>",
        "Employees book trains in second class.",
        "Flights need a reason.",
        "Meals are paid.",
        "Attachments: plan.bin",
    ]


def test_html_in_a_mail_message_is_read_as_text() -> None:
    content = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nContent-Type: text/html; charset=latin-1\n\n<p>Zw\xf6lf<p>Two"
    parsed = read("a.eml", content)
    assert (parsed.title, block_texts(parsed)) == ("Grüße", ["Zwölf", "Two"])


def test_a_mailbox_is_read_by_message(tmp_path: Path) -> None:
    parsed = read("a.mbox", mbox_of(tmp_path, [*TRAVEL, Section("Third", ["From here\n\nFrom there"])]))
    assert [(b.heading, b.place and b.place.label) for b in parsed.blocks[::3]][:3] == [
        (("Travel",), "message 1"),
        (("Travel",), "message 1"),
        (("Limits",), "message 2"),
    ]
    assert block_texts(parsed)[-3:] == ["From here", "From there", "Attachments: plan.bin"]


def test_a_notebook_is_read_by_cell() -> None:
    assert describe_blocks(read("a.ipynb", ipynb_of(TRAVEL[:1]))) == [
        (("Travel",), "cell 1", "Employees book trains in second class."),
        (("Travel",), "cell 2", "print('printed')"),
        (("Travel",), "cell 2", "printed"),
    ]


@pytest.mark.parametrize(("path", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_rows_of_a_csv_file_are_spans_of_its_text(path: str, mark: str) -> None:
    text = f'City{mark}Note\n\nBern{mark}"two\nlines"\nWien{mark}x\n'
    parsed = read(path, text.encode())
    assert parsed.text == text
    assert describe_blocks(parsed) == [
        ((), "row 1", f"City{mark}Note"),
        ((), "row 3", f'Bern{mark}"two\nlines"'),
        ((), "row 4", f"Wien{mark}x"),
    ]
    assert block_leads(parsed) == [f"City{mark}Note"] * 3


def test_json_is_cut_by_its_keys_in_the_file_s_own_text() -> None:
    value = {"a": {"b": ["word " * 300, 2], "c": "short"}, "d": [1, 2]}
    text = json.dumps(value, indent=2)
    parsed = read("a.json", text.encode())
    assert parsed.text == text
    assert [heading for heading, _, _ in describe_blocks(parsed)] == [("a", "b"), ("a", "b"), ("a", "c"), ("d",)]
    assert block_texts(parsed)[2:] == ['"c": "short"', '"d": [\n    1,\n    2\n  ]']


@pytest.mark.parametrize("text", ["// a comment\n{}", "{", "{} {}", "[1,", "", '{"a"', "[" * 5000])
def test_a_file_that_is_not_json_is_read_as_plain_text(text: str) -> None:
    parsed = read("a.json", text.encode())
    assert parsed.text == text
    assert "".join("".join(block_texts(parsed)).split()) == "".join(text.split())


def test_each_line_of_a_json_lines_file_is_a_block() -> None:
    assert block_texts(read("a.jsonl", b'{"a": 1}\n\nnot json\n')) == ['{"a": 1}', "not json"]


def test_restructured_text_is_cut_by_its_titles() -> None:
    text = "=====\nTitle\n=====\n\nintro\n\nOne\n===\n\n* a\n* b\n\nDeep\n----\n\nTwo\n===\ntext\n\n----\n\nend\n"
    parsed = read("a.rst", text.encode())
    assert parsed.text == text
    assert parsed.title == "Title"
    assert [(heading, block) for heading, _, block in describe_blocks(parsed)] == [
        (("Title",), "intro"),
        (("Title", "One"), "* a\n* b"),
        (("Title", "One"), "Deep\n----"),
        (("Title", "Two"), "text"),
        (("Title", "Two"), "----"),
        (("Title", "Two"), "end"),
    ]


_LONG = "Words of a comment. " * 40
_CODE = {
    "a.py": (
        f'import os\n\n\ndef run():\n    pass\n\n\n# Why.\n@keep\nclass Stack:\n    """{_LONG}"""\n\n'
        "    def push(self):\n        return 'ü'\n",
        [(), ("run",), ("Stack",), ("Stack", "push")],
        "    def push(self):\n        return 'ü'",
    ),
    "a.ts": (
        f"export class Shop {{\n  a = '{_LONG}';\n  sell(x: number) {{ return x }}\n}}\n"
        "namespace N { const a = 1 }\nexport const go = (a: string) => { return a }\n",
        [("Shop",), ("Shop", "sell"), ("N",), ("go",)],
        "export const go = (a: string) => { return a }",
    ),
    "a.go": (
        "package a\n\n// Push adds.\nfunc (s *Stack) Push(x int) {}\n\ntype Stack struct { a int }\n",
        [(), ("Stack.Push",), ("Stack",)],
        "type Stack struct { a int }",
    ),
    "a.rs": (
        f"/// Docs.\nstruct A;\nimpl A {{\n // {_LONG}\n const B: u8 = 1;\n fn a() {{}}\n}}\n",
        [("A",), ("A",), ("A", "a")],
        " fn a() {}",
    ),
    "A.java": (
        f"class Foo {{\n  // {_LONG}\n  int x;\n  int get() {{ return x; }}\n}}\n",
        [("Foo",), ("Foo", "get")],
        "  int get() { return x; }",
    ),
    "a.c": ("#include <a.h>\nint *add(int a) { return 0; }\n", [(), ("add",)], "int *add(int a) { return 0; }"),
    "a.cpp": (
        f"namespace n {{\n// {_LONG}\nint a;\ntemplate <class T> class Box {{ T t; }};\n}}\n",
        [("n",), ("n", "Box")],
        "template <class T> class Box { T t; };",
    ),
    "a.lua": ("function a()\nend\n\nfunction b()\nend\n", [(), ()], "function b()\nend"),
}  # fmt: skip


@pytest.mark.parametrize("path", _CODE)
def test_code_is_cut_by_definition(path: str) -> None:
    text, headings, last = _CODE[path]
    parsed = read(path, text.encode())
    assert parsed.text == text
    assert [heading for heading, _, _ in describe_blocks(parsed)] == headings
    assert block_texts(parsed)[-1] == last


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.pdf", pdf_of([TRAVEL], password="b"), "the PDF is encrypted"),
        ("a.pdf", b"%PDF-1.7 junk", "the PDF is damaged"),
        ("a.pdf", b"PK\3\4", "not a PDF"),
        ("a.pdf", pdf_of([[], []]), r"none of its pages has a text layer \(2\)"),
        ("a.docx", b"\xd0\xcf\x11\xe0 old", "encrypted, or of the old binary format"),
        ("a.docx", b"junk", "ZIP archive is damaged"),
        ("a.epub", zip_parts({"a": b"b"}), "META-INF/container.xml is missing"),
        ("a.xls", b"junk", "the spreadsheet is damaged"),
        ("a.xlsx", zip_parts({"a": b"b"}), "the spreadsheet is damaged"),
        ("a.ipynb", b"{", "not JSON"),
        ("a.ipynb", b"[]", "no list of cells"),
        ("a.csv", b"\0\1\2", "binary"),
    ],
)
def test_an_unreadable_file_is_refused_with_a_reason(path: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        read(path, content)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"a.xml": b'<!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>'}, "declares entities"),
        ({"a.xml": b"\0" * (30 << 20)}, "more than 100 times its size"),
        ({f"{n}.xml": b"" for n in range(10_001)}, "10,001 parts"),
    ],
    ids=["entities", "ratio", "entries"],
)
def test_an_archive_bomb_is_refused_with_a_reason(parts: dict[str, bytes], reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        read("a.docx", zip_parts(parts))
