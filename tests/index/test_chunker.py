import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.chunker import Chunker
from index.readers import read
from index.types import Chunk, Parsed
from tests.index.conftest import unhurried


def _words(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def _bytes(text: str) -> int:
    return len(text.encode())


def _chunks(text: str, limit: int, count: Callable[[str], int] = _words, path: str = "a.md") -> list[Chunk]:
    return Chunker(count, limit).chunks(_parsed(text, path))


def _parsed(text: str, path: str) -> Parsed:
    return read(path, text.encode("utf-16"))


_LINES = st.one_of(
    st.text(st.sampled_from("ab .,;:!?()[]'\"`*/-–—€😀\t\xa0\u2028"), max_size=60),
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
_DOCUMENTS = st.lists(_BLOCKS, max_size=8).map("\n\n".join) | st.text()


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


def test_a_chunk_carries_its_headings_and_lines() -> None:
    text = "# A\n\none\n\n## B\n\ntwo\nthree\n"
    assert _chunks(text, 100) == [
        Chunk("one", ("A",), start=5, end=8, line_from=3, line_to=3),
        Chunk("two\nthree", ("A", "B"), start=16, end=25, line_from=7, line_to=8),
    ]


def test_other_line_separators_are_no_lines() -> None:
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
    parsed = _parsed(text, path)
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
    parsed = _parsed(text, path)
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
