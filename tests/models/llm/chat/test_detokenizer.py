import itertools
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.llm.chat.detokenizer import Detokenizer


def feed_each(pieces: Sequence[bytes], stop: Sequence[str] = ()) -> list[str]:
    """Return the text that each piece brings when it is fed alone, the last with `final`."""
    text = Detokenizer(pieces.__getitem__, stop)
    return [text.feed([i], final=i == len(pieces) - 1) for i in range(len(pieces))]


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(borders)]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"a", b"b"], ["a", "b"]),
        ([b"\xc3", b"\xa9"], ["", "é"]),
        ([b"caf\xc3", b"\xa9s"], ["caf", "és"]),
        ([b"\xf0", b"\x9f", b"\xa6", b"\x8a!"], ["", "", "", "🦊!"]),
        ([b"", b"a"], ["", "a"]),
    ],
)
def test_a_character_is_held_back_until_it_is_whole(pieces: list[bytes], texts: list[str]) -> None:
    assert feed_each(pieces) == texts


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"a\xc3", b"b"], ["a", "\ufffdb"]),
        ([b"a", b"\xf0\x9f"], ["a", "\ufffd"]),
        ([b"\xff"], ["\ufffd"]),
    ],
)
def test_invalid_bytes_become_replacement_characters(pieces: list[bytes], texts: list[str]) -> None:
    assert feed_each(pieces) == texts


@pytest.mark.parametrize(
    ("pieces", "stop", "texts"),
    [
        pytest.param([b"one STOP two"], ["STOP"], ["one "], id="within a token"),
        pytest.param([b"one ST", b"OP two"], ["STOP"], ["one ", ""], id="over two tokens"),
        pytest.param([b"S", b"T", b"O", b"P", b"x"], ["STOP"], ["", "", "", "", ""], id="over many"),
        pytest.param([b"ST", b"ILL"], ["STOP"], ["", "STILL"], id="a false start is given back"),
        pytest.param([b"aa", b"ab"], ["aab"], ["", "a"], id="a start within a start"),
        pytest.param([b"abab", b"ac"], ["abac"], ["ab", ""], id="the longest end is held, no more"),
        pytest.param([b"x\xc3", b"\xa9y"], ["é"], ["x", ""], id="a split character"),
        pytest.param([b"one tw"], ["o", "two"], [""], id="at the very beginning"),
        pytest.param([b"x END y STOP"], ["STOP", "END"], ["x "], id="the earliest of two"),
        pytest.param([b"a\n", b"\nb"], ["\n\n", "\n"], ["a", ""], id="one begins with another"),
        pytest.param([b"x", b"ab"], ["b", "ab"], ["x", ""], id="one ends with another"),
        pytest.param([b"a", b"b"], [""], ["a", "b"], id="an empty one stops nothing"),
    ],
)
def test_text_ends_before_a_stop_string(pieces: list[bytes], stop: list[str], texts: list[str]) -> None:
    assert feed_each(pieces, stop) == texts


def test_no_text_follows_a_stop_string() -> None:
    text = Detokenizer([b"a.", b"b"].__getitem__, ["."])
    assert (text.feed([0]), text.is_stopped) == ("a", True)
    assert text.feed([1], final=True) == ""


def test_held_text_is_emitted_at_the_end() -> None:
    text = Detokenizer([b"wait ST"].__getitem__, ["STOP"])
    assert text.feed([0]) == "wait "
    assert text.feed([], final=True) == "ST"
    assert not text.is_stopped


@given(text=st.text(), cuts=st.lists(st.integers(0, 200)))
def test_text_without_stop_strings_does_not_depend_on_how_it_is_cut_into_tokens(text: str, cuts: list[int]) -> None:
    assert "".join(feed_each(split(text.encode(), cuts))) == text


@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 40)))
def test_any_bytes_decode_as_if_they_were_fed_at_once(data: bytes, cuts: list[int]) -> None:
    assert "".join(feed_each(split(data, cuts))) == data.decode(errors="replace")


@given(
    text=st.text("abé🦊", max_size=30),
    stop=st.lists(st.text("abé🦊", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 100)),
)
def test_the_text_is_cut_at_the_first_stop_however_it_is_cut_into_tokens(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    # With one stop string inside another, which of them is first is a matter of definition.
    assume(not any(inner in outer[1:-1] for inner in stop for outer in stop))
    starts = [text.find(s) for s in stop if s in text]
    assert "".join(feed_each(split(text.encode(), cuts), stop)) == (text[: min(starts)] if starts else text)


@pytest.mark.parametrize(
    ("pieces", "stop", "by"),
    [
        ([b"ab", b"cd"], ["bc", "d"], "bc"),
        ([b"ab", b"cd"], ["abcd", "c"], "c"),
        ([b"ab", b"cd"], ["x", ""], None),
        ([b"ab", b"c"], ["cd"], None),
    ],
)
def test_the_stop_string_that_ended_the_text_is_known(
    pieces: Sequence[bytes], stop: Sequence[str], by: str | None
) -> None:
    text = Detokenizer(pieces.__getitem__, stop)
    text.feed([0])
    text.feed([1], final=True)
    assert text.stopped_by == by
    assert text.is_stopped == (by is not None)
