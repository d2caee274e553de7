import json
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.ingest.chunker import Chunker
from index.reading.lines import unwrap
from index.reading.readers import read
from index.types import Chunk, ParsedDocument
from tests.index.conftest import unhurried
from tests.index.samples import (
    TRAVEL,
    Section,
    docx_of,
    eml_of,
    epub_of,
    html_of,
    ipynb_of,
    pdf_of,
    pptx_of,
    xlsx_of,
)


def _words(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def _bytes(text: str) -> int:
    return len(text.encode())


def _chunks(text: str, limit: int, count: Callable[[str], int] = _words, path: str = "a.md") -> list[Chunk]:
    return Chunker(count, limit).chunks(_parse(text, path))


def _parse(text: str, path: str) -> ParsedDocument:
    return read(path, text.encode("utf-16"))


_LINES = st.one_of(
    st.text(st.sampled_from("ab .,;:!?()[]'\"`*/-–—€😀\t\xa0\u2028"), max_size=90),
    st.lists(st.sampled_from(["leave", "Übung", "a.b", "x" * 30, "—", "(see", "note)"]), max_size=20).map(" ".join),
)
_BLOCKS = st.one_of(
    st.lists(_LINES, min_size=1, max_size=4).map("\n".join),
    st.integers(1, 4).flatmap(lambda depth: _LINES.map(lambda line: f"{'#' * depth} {line}")),
    st.lists(_LINES, max_size=4).map(lambda lines: "\n".join(["```", *lines, "```"])),
    st.lists(_LINES, min_size=1, max_size=4).map(lambda lines: "\n".join(f"- {line}" for line in lines)),
    st.lists(_LINES, max_size=3).map(lambda lines: "\n".join(["| a |", "|---|", *(f"| {line} |" for line in lines)])),
)  # fmt: skip
# At least the tokens of the costliest character, four bytes here: semchunk cannot cut one and raises RecursionError.
_LIMITS = st.integers(4, 40)
_DOCUMENTS = st.lists(_BLOCKS, max_size=8).map("\n\n".join) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("one two\n\nthree", 5, ["one two\n\nthree"]),
        ("one two\n\nthree four", 3, ["one two", "three four"]),
        ("one\n\ntwo\n\nthree\n\nfour", 2, ["one\n\ntwo", "three\n\nfour"]),
        ("One two. Three four five.", 4, ["One two.", "Three four five."]),
        ("- one\n- two\n- three", 4, ["- one\n- two", "- three"]),
        ("# A\n\none\n\n# B\n\ntwo", 100, ["one", "two"]),
        ("# A\n\none\n\n## B\n\ntwo\n\n## C\n\nthree", 100, ["one", "two", "three"]),
        ("", 5, []),
    ],
    ids=["fits", "two blocks", "pairs", "sentences", "list", "headings", "levels", "empty"],
)
def test_chunks_are_as_large_as_the_limit_and_the_headings_allow(text: str, limit: int, expected: list[str]) -> None:
    assert [chunk.text for chunk in _chunks(text, limit)] == expected


def test_hard_wrapped_paragraphs_become_one_line_and_lists_stay() -> None:
    full = "this line of a paragraph is long enough to have been wrapped by an editor"
    text = f"{full}\n`code` goes on\n\n- {full}\n  goes on\n- {full}\n1. {full}\n| a |\nshort\nlines"
    assert unwrap(text).text == (f"{full} `code` goes on\n\n- {full} goes on\n- {full}\n1. {full}\n| a |\nshort\nlines")


@given(st.text(alphabet="ab .\n-", max_size=400))
def test_unwrapped_text_maps_back_to_its_origin(text: str) -> None:
    read, origin = unwrap(text)
    assert len(read) == len(origin)
    assert all(read[i] in (text[at], " ") for i, at in enumerate(origin))
    assert read.split() == text.split()


_WRAPPED = (
    "The first sentence of this paragraph was wrapped where the editor\nsaw fit. The second one was wrapped as well,"
    " and ends not far\nfrom here. The third is short."
)


@pytest.mark.parametrize("path", ["a.md", "a.txt", "a.rst"])
@pytest.mark.parametrize("text", [_WRAPPED, f"{_WRAPPED} {_WRAPPED}"])
def test_wrapped_prose_is_cut_where_sentences_end(text: str, path: str) -> None:
    assert len(chunks := _chunks(text, 25, path=path)) > 1
    assert all(chunk.text.endswith(".") for chunk in chunks)


def test_an_item_of_a_list_is_cut_where_sentences_end() -> None:
    item = _WRAPPED.replace("\n", "\n  ")
    assert all(chunk.text.endswith(".") for chunk in _chunks(f"* {item}\n* {item}", 25))


def test_code_is_cut_where_its_lines_end() -> None:
    line = "call_of_a_function(with_a_parameter, and_another, and_so_on) or nothing. else"
    for text in (f"```\n{line}\n{line}\n{line}\n```", f"    {line}\n    {line}\n    {line}"):
        assert all(chunk.text.endswith(("else", "```")) for chunk in _chunks(text, 25))


def test_a_chunk_carries_its_headings_and_lines() -> None:
    text = "# A\n\none\n\n## B\n\ntwo\nthree\n"
    assert _chunks(text, 100) == [
        Chunk("one", ("A",), start=5, end=8, line_from=3, line_to=3),
        Chunk("two\nthree", ("A", "B"), start=16, end=25, line_from=7, line_to=8),
    ]


def test_only_line_feeds_end_lines() -> None:
    (chunk,) = _chunks("one\u2028two\x0bthree\x85four", 100, path="a.txt")
    assert (chunk.line_from, chunk.line_to) == (1, 1)


@unhurried
@given(
    text=_DOCUMENTS,
    limit=_LIMITS,
    count=st.sampled_from([_words, _bytes]),
    path=st.sampled_from(["a.md", "a.txt"]),
)
def test_chunks_are_exact_spans_in_order_within_the_limit(
    text: str, limit: int, count: Callable[[str], int], path: str
) -> None:
    parsed = _parse(text, path)
    chunks = Chunker(count, limit).chunks(parsed)
    last = 0
    for chunk in chunks:
        assert last <= chunk.start < chunk.end
        assert parsed.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()
        assert count(chunk.text) <= limit
        assert chunk.line_from == 1 + parsed.text[: chunk.start].count("\n")
        assert chunk.line_to == 1 + parsed.text[: chunk.end - 1].count("\n")
        last = chunk.end


@unhurried
@given(
    text=_DOCUMENTS,
    limit=_LIMITS,
    count=st.sampled_from([_words, _bytes]),
    path=st.sampled_from(["a.md", "a.txt"]),
)
def test_no_character_of_a_block_is_lost(text: str, limit: int, count: Callable[[str], int], path: str) -> None:
    parsed = _parse(text, path)
    covered = {at for chunk in Chunker(count, limit).chunks(parsed) for at in range(chunk.start, chunk.end)}
    lost = [
        at
        for block in parsed.blocks
        for at in range(block.start, block.end)
        if not parsed.text[at].isspace() and at not in covered
    ]
    assert not lost


@unhurried
@given(
    sections=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 15), st.booleans()), min_size=1, max_size=6),
    limit=st.integers(1, 40),
)
def test_no_chunk_crosses_a_heading(sections: list[tuple[int, int, bool]], limit: int) -> None:
    text = "\n\n".join(
        f"{'#' * depth} title{number}\n\n" + ("\n\n" if is_loose else " ").join([f"word{number}"] * num_words)
        for number, (depth, num_words, is_loose) in enumerate(sections)
    )
    chunks = _chunks(text, limit)
    assert sum(chunk.text.count("word") for chunk in chunks) == sum(num_words for _, num_words, _ in sections)
    for chunk in chunks:
        number = chunk.heading[-1].removeprefix("title")
        assert set(chunk.text.split()) == {f"word{number}"}


_CELLS = st.text(st.sampled_from("ab 1.,|-é€\u3042"), max_size=20)
_TABLES = st.tuples(st.integers(1, 4), st.integers(1, 12)).flatmap(
    lambda size: st.lists(st.lists(_CELLS, min_size=size[0], max_size=size[0]), min_size=size[1], max_size=size[1])
)
_WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=80)
_SECTIONS = st.lists(st.builds(Section, _WORDS, st.lists(_WORDS, max_size=3), _TABLES), min_size=1, max_size=3)
_MAKERS: dict[str, Callable[[list[Section]], bytes]] = {
    "a.docx": docx_of,
    "a.pptx": pptx_of,
    "a.html": html_of,
    "a.epub": epub_of,
    "a.eml": eml_of,
    "a.ipynb": ipynb_of,
    "a.xlsx": lambda sections: xlsx_of({f"S{n}": section.rows for n, section in enumerate(sections)}),
    "a.csv": lambda sections: "\n".join(",".join(row) for s in sections for row in s.rows).encode(),
    "a.json": lambda sections: json.dumps(sections, indent=1).encode(),
    "a.jsonl": lambda sections: "\n".join(json.dumps(section) for section in sections).encode(),
    "a.rst": lambda sections: "\n\n".join(
        "\n\n".join([f"{section.heading}\n{'=' * 90}", *section.paragraphs]) for section in sections
    ).encode(),
    "a.py": lambda sections: "\n".join(f"def f(a):\n    return {s.heading!r}\n" for s in sections).encode(),
    "a.pdf": lambda sections: pdf_of([[_latin(section)] for section in sections]),
}  # fmt: skip


def _latin(section: Section) -> Section:
    """Return a section without characters that the font of the PDF lacks."""
    plain = [text.encode("latin-1", "ignore").decode("latin-1") for text in section.paragraphs]
    return Section("Heading", [text for text in plain if text.strip()] or ["words"])


@pytest.mark.parametrize("path", _MAKERS)
@settings(unhurried, max_examples=15)
@given(sections=_SECTIONS, limit=st.integers(16, 60))
def test_chunks_of_every_format_are_exact_spans(path: str, sections: list[Section], limit: int) -> None:
    parsed = read(path, _MAKERS[path](sections))
    chunks = Chunker(_words, limit).chunks(parsed)
    last = 0
    for chunk in chunks:
        assert last <= chunk.start < chunk.end
        assert parsed.text[chunk.start : chunk.end] == chunk.text
        assert _words(chunk.text_with_lead) <= limit
        assert chunk.lead in parsed.text[: chunk.start]
        last = chunk.end
    covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    inside = {at for b in parsed.blocks for at in range(b.start, b.end) if not parsed.text[at].isspace()}
    assert inside <= covered
    parsed.text.encode()


@unhurried
@given(rows=st.lists(st.integers(1, 12), min_size=1, max_size=40), limit=st.integers(40, 80))
def test_rows_stay_whole_under_their_header(rows: list[int], limit: int) -> None:
    lines = [f"| {number} | {'word ' * size}|" for number, size in enumerate(rows)]
    header = "| number | words |\n|---|---|"
    for path, text in (("a.md", "\n".join([header, *lines])), ("a.csv", "number,words\n" + "\n".join(
        f"{number},{'word ' * size}" for number, size in enumerate(rows)
    ))):  # fmt: skip
        chunks = Chunker(_words, limit).chunks(read(path, text.encode()))
        head = text[: text.index("\n" + (lines[0] if path == "a.md" else "0,"))]
        body = text[len(head) :].split("\n")[1:]
        row_lines = [line for chunk in chunks for line in chunk.text.removeprefix(head).strip("\n").split("\n") if line]
        assert [line.rstrip() for line in row_lines] == [line.rstrip() for line in body]
        assert all(chunk.text_with_lead.startswith(head) for chunk in chunks)
        assert [chunk.lead for chunk in chunks] == [""] + [head] * (len(chunks) - 1)


def test_a_row_larger_than_a_chunk_is_cut_under_its_header() -> None:
    rows = "| a | b |\n|---|---|\n| " + "word " * 50 + "| x |"
    chunks = _chunks(rows, 40)
    assert "".join(chunk.text for chunk in chunks).count("word") == 50
    assert {chunk.lead for chunk in chunks[1:]} == {"| a | b |\n|---|---|"}


def test_a_chunk_of_rows_has_their_numbers() -> None:
    rows = [("City", "Hotel"), *((f"City{n}", n) for n in range(20))]
    chunks = Chunker(_words, 40).chunks(read("a.xlsx", xlsx_of({"Budget": rows})))
    places = [chunk.place for chunk in chunks]
    assert next(place.label for place in places if place) == "Budget, rows 1–6"
    assert all(a and b and b.first == a.last + 1 for a, b in pairwise(places))
    assert places[-1] and places[-1].last == 21


def test_no_chunk_crosses_a_page() -> None:
    parsed = read("a.pdf", pdf_of([TRAVEL, TRAVEL]))
    assert [chunk.place and chunk.place.label for chunk in Chunker(_words, 500).chunks(parsed)] == ["p. 1"] * 2 + [
        "p. 2"
    ] * 2


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("# A\n\none\n\n# A\n\ntwo", ["one", "two"]),
        ("# A\n\none\n\n##\n\ntwo", ["one", "two"]),
        ("---\n\nFirst part.\n\n---\n\nSecond part.\n", ["First part. Second part."]),
        ("---\n---\nFirst part.\n\n---\n\nSecond part.\n", ["First part. Second part."]),
        ("---\ntitle: x\n---", []),
        ("---\ntitle: x\ntags: [a]\n---\n\nText.", ["Text."]),
    ],
)
def test_no_chunk_crosses_a_heading_and_only_front_matter_is_left_out(text: str, chunks: list[str]) -> None:
    all_chunks = Chunker(lambda part: len(part.split()), 100).chunks(read("a.md", text.encode()))
    words = [chunk.text.replace("---", "").split() for chunk in all_chunks]
    assert [" ".join(chunk) for chunk in words if chunk] == chunks
