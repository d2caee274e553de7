import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import UnreadableDocument
from index.reading.readers import is_readable, read
from index.reading.readers.text import decode
from tests.index.conftest import unhurried

_MARKUP = st.sampled_from([
    "# ", "## ", "#### ", "```", "~~~", "- ", "1. ", "> ", "| a | b |", "|---|---|", "---", "===", "<div>", "[x]: y",
    "*", "`", "word", "zwei Wörter", " ", "    ", "\t", "\n", "\n\n", "\r\n", "\x0b", "\u2028", "\xa0", "\0",
])  # fmt: skip
_TEXTS = st.one_of(st.text(), st.lists(_MARKUP, max_size=40).map("".join)).filter(lambda text: "\0" not in text)


def _blocks(text: str, path: str = "a.md") -> list[tuple[tuple[str, ...], str]]:
    """Return the headings and the text of every block."""
    parsed = read(path, text.encode())
    return [(block.heading, parsed.text[block.start : block.end]) for block in parsed.blocks]


@pytest.mark.parametrize(
    "content",
    [
        "Grüße\n€5".encode(),
        b"\xef\xbb\xbf" + "Grüße\n€5".encode(),
        b"\xff\xfe" + "Grüße\n€5".encode("utf-16-le"),
        b"\xfe\xff" + "Grüße\n€5".encode("utf-16-be"),
        "Grüße\n€5".encode("cp1252"),
        b"\xff\xfe\0\0" + "Grüße\n€5".encode("utf-32-le"),
        b"\0\0\xfe\xff" + "Grüße\n€5".encode("utf-32-be"),
        "Grüße\n€5".encode("utf-32-le"),
        "Grüße\n€5".encode("utf-32-be"),
        "Grüße\n€5".encode("utf-16-le"),
        "Grüße\n€5".encode("utf-16-be"),
        "Grüße\r\n€5".encode(),
        "Grüße\r€5".encode(),
    ],
    ids=[
        "utf-8",
        "utf-8 marked",
        "utf-16-le",
        "utf-16-be",
        "cp1252",
        "utf-32-le",
        "utf-32-be",
        "utf-32-le unmarked",
        "utf-32-be unmarked",
        "utf-16-le unmarked",
        "utf-16-be unmarked",
        "CRLF",
        "CR",
    ],
)
def test_every_usual_encoding_and_line_end_gives_the_same_text(content: bytes) -> None:
    assert decode(content) == "Grüße\n€5"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
        (b"caf\x81", r"byte 0x81 at 3.*save it as UTF-8"),
        (b"\xff\xfeo\0d", "encoding is not known"),
        (b"\xff\xfe\x00\xd8x\0", "encoding is not known"),
    ],
    ids=["zero bytes", "no encoding has it", "half a UTF-16 unit", "half a surrogate pair"],
)
def test_binary_content_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        decode(content)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Сотрудники покупают билеты на поезд во втором классе и сохраняют все чеки."),
        ("koi8_r", "Сотрудники покупают билеты на поезд во втором классе и сохраняют все чеки."),
        (
            "cp1250",
            "Zaměstnanci kupují jízdenky druhé třídy a účtenky uschovají. Jídlo nad čtyřicet eur vyžaduje podpis. " * 3,
        ),
        ("cp932", "従業員は二等車の切符を購入し、すべての領収書を保管しなければなりません。"),
        ("gb18030", "员工应购买二等座火车票，并保留所有收据。超过四十欧元的餐费需要签字。"),
        ("cp1252", "Die Beschäftigten müssen für Übernachtungen über fünfzig Euro höhere Gebühren begründen. " * 4),
    ],
)
def test_legacy_encodings_are_guessed_from_running_text(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_a_file_may_declare_its_encoding() -> None:
    assert "Žluťoučký" in read("a.html", b'<meta charset="windows-1250"><p>\x8elu\x9dou\xe8k\xfd').text
    assert "é" in read("a.py", b"# coding: latin-1\ntext = '\xe9'\n").text


@pytest.mark.parametrize("path", ["a.md", "b/A.MD", "c.markdown", "d.txt", "e.rst", "two.dots.text"])
def test_the_suffix_chooses_the_reader(path: str) -> None:
    assert is_readable(path)
    assert read(path, b"words").text == "words"


@pytest.mark.parametrize("path", ["a", "a.exe", "md", "a.md.bak", "a.png", "txt/a"])
def test_other_suffixes_have_no_reader(path: str) -> None:
    assert not is_readable(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A\n\none\n\n## B\n\ntwo\n\n# C\n\nthree", [(("A",), "one"), (("A", "B"), "two"), (("C",), "three")]),
        ("before\n\n# A\n\nafter", [((), "before"), (("A",), "after")]),
        ("# A\n\n#### D\n\ndeep\n\n## B\n\nback", [(("A", "D"), "deep"), (("A", "B"), "back")]),
        ("### C\n\nthree\n\n# A\n\none", [(("C",), "three"), (("A",), "one")]),
        ("A\n===\n\none\n\nB\n---\n\ntwo", [(("A",), "one"), (("A", "B"), "two")]),
        ("# A #\n\none", [(("A",), "one")]),
        ("#no heading\n\n    # code", [((), "#no heading"), ((), "    # code")]),
        ("> # quoted\n> words", [((), "> # quoted\n> words")]),
        ("# A\n\n```sh\n# comment\n\nls\n```\n\nend", [(("A",), "```sh\n# comment\n\nls\n```"), (("A",), "end")]),
        ("# A\n\n~~~\n# never closed\n", [(("A",), "~~~\n# never closed")]),
        ("# A\n\n| x |\n|---|\n| 1 |\n\nend", [(("A",), "| x |\n|---|"), (("A",), "| 1 |"), (("A",), "end")]),
        ("- one\n- two\n\n  still two\n\nend", [((), "- one\n- two\n\n  still two"), ((), "end")]),
        ("1. one\n   # no heading of the page\n2. two", [((), "1. one\n   # no heading of the page\n2. two")]),
        ("one\ntwo  \n\n\n\nthree", [((), "one\ntwo"), ((), "three")]),
        ("", []),
        (" \n\t\n", []),
    ],
    ids=[
        "levels", "text before", "skipped level", "starts deep", "setext", "closing marks", "no headings", "quote",
        "fence", "open fence", "table", "list", "heading in a list", "paragraphs", "empty", "white space",
    ],
)  # fmt: skip
def test_markdown_becomes_blocks_under_their_headings(text: str, expected: list[tuple[tuple[str, ...], str]]) -> None:
    assert _blocks(text) == expected
    assert _blocks(text.replace("\n", "\r\n")) == expected


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("`run()` and **bold**", "run() and bold"),
        ("[a link](https://example.org) here", "a link here"),
        ("*e*mphasis in a w*or*d", "emphasis in a word"),
        ("AT&amp;T \\# one", "AT&T # one"),
    ],
)
def test_a_heading_is_known_by_its_words_without_markup(heading: str, expected: str) -> None:
    assert _blocks(f"# {heading}\n\nbody") == [((expected,), "body")]


def test_a_section_that_is_only_a_heading_is_a_block_of_its_parent() -> None:
    assert _blocks("# A\n\n# B\n\nbody\n\n## C\n\n## D") == [
        ((), "# A"),
        (("B",), "body"),
        (("B",), "## C"),
        (("B",), "## D"),
    ]


def test_a_heading_over_a_subsection_is_no_block() -> None:
    assert _blocks("# A\n\n## B\n\nbody") == [(("A", "B"), "body")]


def test_the_first_heading_is_the_title() -> None:
    assert read("a.md", b"intro\n\n## Second *level*\n\n# First").title == "Second level"
    assert read("a.md", b"no heading").title is None
    assert read("a.txt", b"# plain").title is None


@pytest.mark.parametrize("end", ["---", "..."])
def test_front_matter_is_no_block_and_moves_no_line(end: str) -> None:
    text = f"---\ntitle: x\ntags: [a]\n{end}\n# A\n\nbody"
    parsed = read("a.md", text.encode())
    assert _blocks(text) == [(("A",), "body")]
    assert parsed.text == text
    assert parsed.title == "A"


def test_plain_text_becomes_paragraphs() -> None:
    text = "  one\n  goes on\n\n \t \ntwo # no heading\n---\nthree\n"
    assert _blocks(text, "a.txt") == [((), "one\n  goes on"), ((), "two # no heading\n---\nthree")]


@unhurried
@given(text=_TEXTS, path=st.sampled_from(["a.md", "a.txt"]))
def test_blocks_are_inside_the_text_in_order_and_apart(text: str, path: str) -> None:
    content = text.encode("utf-16")  # the one encoding in which every text, zero characters too, can be a file
    parsed = read(path, content)
    assert parsed.text == decode(content)
    last = 0
    for block in parsed.blocks:
        assert last <= block.start < block.end <= len(parsed.text)
        assert parsed.text[block.start : block.end].strip()
        last = block.end


@unhurried
@given(text=_TEXTS)
def test_every_word_of_plain_text_is_in_a_block(text: str) -> None:
    parsed = read("a.txt", text.encode("utf-16"))
    words = [word for block in parsed.blocks for word in parsed.text[block.start : block.end].split()]
    assert words == parsed.text.split()


@unhurried
@given(content=st.binary())
def test_any_bytes_are_text_or_are_refused(content: bytes) -> None:
    try:
        text = decode(content)
    except UnreadableDocument as error:
        assert error.reason
    else:
        assert "\r" not in text
