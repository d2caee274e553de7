"""Citation markers in a streamed answer, code that resembles them, quotes, and the list of sources."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rag.citations import (
    Citation,
    MarkerFilter,
    citations_in_json,
    source_list,
    without_source_list,
)
from server.rag.quotes import claim, find_quote, with_quotes

PIECES = st.sampled_from(
    [
        *"ab .,;:(-^0129\n\t`~[]【】†–>_",
        "[1]",
        " [2]",
        "[9]",
        "[1, 2]",
        "[1-9]",
        "[^1]",
        "【2】",
        "```",
        "\n```\n",
        "~~~\n",
    ]
)
ANSWERS = st.lists(PIECES, max_size=40).map("".join)


def filter_text(text: str, numbers: set[int], sizes: Sequence[int] = ()) -> tuple[str, list[Citation]]:
    """Filter the text in pieces of these sizes, and the rest at once; return the text and its citations."""
    markers = MarkerFilter(frozenset(numbers))
    out, at = "", 0
    for size in sizes:
        out += markers.feed(text[at : at + size])
        at += size
    return out + markers.feed(text[at:], final=True), markers.citations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sixteen weeks. [1]", "Sixteen weeks. [1]"),
        ("Sixteen weeks. [9]", "Sixteen weeks."),
        ("A [9], B [1].", "A, B [1]."),
        ("A[1][9][2]", "A[1][2]"),
        ("one [1] [2] two", "one [1] [2] two"),
        ("open [", "open ["),
        ("[1", "[1"),
        ("", ""),
        # several in one, and other brackets
        ("A [1, 2].", "A [1][2]."),
        ("A [1,9, 2].", "A [1][2]."),
        ("A [8; 9].", "A."),
        ("A [1-3].", "A [1][2]."),
        ("A [1–2, 7].", "A [1][2]."),
        ("A [2 - 4, 1, 2].", "A [2][1]."),
        ("A [1, 1].", "A [1]."),
        ("A [^1] and [^9].", "A [1] and."),
        ("[^1]: the first", "[1]: the first"),
        ("A 【1】【9】.", "A [1]."),
        ("A 【2†L3-L5】 and 【7†source】.", "A [2] and."),
        ("A [1-300].", "A [1][2]."),
        # what is none
        ("list[0] and x[12345] and [a]", "list[0] and x[12345] and [a]"),
        ("A [0].", "A."),
        ("digits [0-9] or [0, 1] or [01]", "digits [0-9] or [0, 1] or [01]"),
        ("in [2024] and [3-1] and [1-2-3]", "in [2024] and [3-1] and [1-2-3]"),
        ("see [9](https://a.b) and ![9](c.png)", "see [9](https://a.b) and ![9](c.png)"),
        ("[9] (see below)", " (see below)"),
        ("- [ ] to do [x] done", "- [ ] to do [x] done"),
        ("\\[9\\] and [9", "\\[9\\] and [9"),
        # code
        ("use `a[9]` here [9]", "use `a[9]` here"),
        ("use ``a`[9]`` here [9]", "use ``a`[9]`` here"),
        ("one ` tick [9]\nnext [9]", "one ` tick [9]\nnext"),
        ("```python\nx = a[9] + [9]\n```\nDone [9].", "```python\nx = a[9] + [9]\n```\nDone."),
        ("- so:\n  ```\n  [9]\n  ```\n  Done [9].", "- so:\n  ```\n  [9]\n  ```\n  Done."),
        ("> ```\n> [9]\n> ```\nDone [9].", "> ```\n> [9]\n> ```\nDone."),
        ("~~~\n[9]\n```\n[9]\n~~~\nDone [9].", "~~~\n[9]\n```\n[9]\n~~~\nDone."),
        ("````\n```\n[9]\n````\nDone [9].", "````\n```\n[9]\n````\nDone."),
        ("```x[9]``` and [9]", "```x[9]``` and"),
        ("about ~~[9] this~~ [9]", "about ~~ this~~"),
        ("```\n[9] never closed", "```\n[9] never closed"),
    ],
)
def test_markers_without_a_source_are_removed_and_code_stays(text: str, expected: str) -> None:
    whole, citations = filter_text(text, {1, 2})
    assert whole == expected
    assert [whole[c.start : c.end] for c in citations] == [f"[{c.number}]" for c in citations]
    assert filter_text(text, {1, 2}, [1] * len(text)) == (whole, citations)


def test_only_markers_that_name_a_source_become_citations() -> None:
    text = "So `a[1]` is [1], [2](x) is a link, and so on [1, 2]."
    whole, citations = filter_text(text, {1, 2})
    assert whole == "So `a[1]` is [1], [2](x) is a link, and so on [1][2]."
    assert citations == [Citation(1, 13, 16), Citation(1, 46, 49), Citation(2, 49, 52)]


@given(ANSWERS, st.lists(st.integers(1, 5), max_size=30))
def test_filtering_in_pieces_gives_the_same_text_and_citations(text: str, sizes: list[int]) -> None:
    whole, citations = filter_text(text, {1, 12})
    assert filter_text(text, {1, 12}, sizes) == (whole, citations)
    assert all(whole[c.start : c.end] == f"[{c.number}]" for c in citations)
    assert [c.start for c in citations] == sorted({c.start for c in citations})


@given(st.text(alphabet="ab .,\n[]9", max_size=60))
def test_filtering_without_sources_removes_only_brackets_with_numbers(text: str) -> None:
    assert filter_text(text, set())[0] == re.sub(r" ?\[(?:9{1,3})(?: ?, ?9{1,3}){0,7}\](?!\()", "", text)


@given(ANSWERS)
def test_the_filter_holds_back_only_text_that_may_become_a_marker(text: str) -> None:
    markers = MarkerFilter(frozenset({1}))
    given_out = ""
    for character in text:
        given_out += markers.feed(character)
        assert re.fullmatch(r"(?:[ \t]?(?:[\[【][^\[\n`a-z]{0,80})?)?", markers._held)
        assert markers.num_held <= len(" [123 - 123 - 123 - 123 - 123 - 123 - 123 - 123]") + 26
    assert given_out + markers.feed("", final=True) == filter_text(text, {1})[0]


@given(st.lists(st.integers(1, 999), min_size=1, max_size=8), st.sampled_from([",", ", ", ";", " , "]), st.booleans())
def test_the_filter_holds_back_every_beginning_of_a_marker(numbers: list[int], joint: str, is_wide: bool) -> None:
    joined_numbers = joint.join(map(str, numbers))
    markers = MarkerFilter(frozenset(numbers))
    marker = f" 【{joined_numbers}】" if is_wide else f" [{joined_numbers}]"
    assert [markers.feed(character) for character in marker] == [""] * len(marker)
    assert markers.feed("", final=True) == " " + "".join(f"[{n}]" for n in dict.fromkeys(numbers))


def test_json_is_cited_by_markers_in_its_strings_alone() -> None:
    text = '{"weeks": [1], "why": "so [1], and [9] \\"[2]\\" in [2]"}'
    citations = citations_in_json(text, frozenset({1, 2}))
    assert [text[c.start : c.end] for c in citations] == ["[1]", "[2]", "[2]"]
    assert [c.start > text.index("so") for c in citations] == [True] * 3


ENTRIES = st.lists(
    st.tuples(
        st.integers(1, 999),
        st.text(max_size=20),
        st.integers(1, 10**9).map(lambda id: f"http://127.0.0.1:8000/documents/{id}?chunk={id}#chunk-{id}"),
    ),
    min_size=1,
    max_size=5,
)


@given(st.text(max_size=60), ENTRIES, st.sampled_from(["", "\n", "  "]))
def test_the_source_list_is_removed_from_any_answer(
    text: str, entries: list[tuple[int, str, str]], trailing: str
) -> None:
    source_list_text = source_list(entries)
    assert without_source_list(text + source_list_text + trailing) == text
    assert without_source_list(text + source_list_text + source_list_text) == text + source_list_text
    assert without_source_list(text + source_list_text + "\n\nThanks.") == text + source_list_text + "\n\nThanks."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "Yes.\n\nSources:\n",
        "Yes.\n\nSources:\n[1] handbook/leave.md",
        "Yes.\n\nSources:\n[1] [leave](https://example.org/leave)",
        "Yes.\n\nSources:\n- the handbook",
    ],
)
def test_text_that_only_resembles_a_source_list_stays(text: str) -> None:
    assert without_source_list(text) == text


def test_the_source_list_has_a_link_for_each_source_and_escapes_labels() -> None:
    url = "http://127.0.0.1:8000/documents/3?chunk=7#chunk-7"
    assert source_list([(1, "a/b.md › p. 3", url), (2, "a/](http://evil) [x\n\n\\ y", url)]) == (
        f"\n\nSources:\n[1] [a/b.md › p. 3]({url})\n[2] [a/\\](http://evil) \\[x \\\\ y]({url})"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Trains come first. Leave is sixteen weeks [#].", "Leave is sixteen weeks"),
        ("Trains come first. Leave is sixteen weeks. [#]", "Leave is sixteen weeks."),
        ("Trains come first. [1] Leave is sixteen weeks. [#]", "Leave is sixteen weeks."),
        ("Trains come first [1], and leave is sixteen weeks [#].", ", and leave is sixteen weeks"),
        ("Leave is sixteen weeks [1][#].", "Leave is sixteen weeks"),
        ("Leave is sixteen weeks [1] [2] [#].", "Leave is sixteen weeks"),
        ("- Trains come first\n- Leave is sixteen weeks [#]", "- Leave is sixteen weeks"),
        ("[#] Leave is sixteen weeks. Trains come first.", " Leave is sixteen weeks."),
        ("[#][1] Leave is sixteen weeks. Trains.", " Leave is sixteen weeks."),
    ],
)
def test_the_claim_of_a_marker_is_its_sentence(text: str, expected: str) -> None:
    start = text.index("[#]")
    assert claim(text.replace("#", "5"), Citation(5, start, start + 3)) == expected


def test_the_quote_is_the_sentence_that_shares_most_words_and_rare_ones_first() -> None:
    text = "The leave of the parents is paid. The leave of the sick is paid by the fund. Dogs are welcome."
    assert find_quote("Is the leave of sick people paid?", text) == "The leave of the sick is paid by the fund."
    assert find_quote("welcome", text) == "Dogs are welcome."
    assert find_quote("nothing else", text) is None
    assert find_quote("x", "") is None
    assert find_quote("休暇は十六週間", "事務所に犬を連れて来てよい。\n休暇は十六週間です。") == "休暇は十六週間です。"


@given(ANSWERS, st.text(alphabet="abc. \nABC12", max_size=80))
def test_every_quote_is_part_of_its_source(text: str, source: str) -> None:
    whole, citations = filter_text(text, {1, 2})
    for citation in with_quotes(citations, whole, {1: source, 2: "ab 12."}):
        assert citation.quote is None or citation.quote in (source, "ab 12.")[citation.number - 1]
