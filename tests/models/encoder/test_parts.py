"""Texts in parts that a model can read whole."""

from hypothesis import given
from hypothesis import strategies as st

from models.encoder.parts import Part, parts_of


def words(text: str) -> int:
    return len(text.split())


@given(st.text("ab \n", max_size=300), st.integers(1, 20))
def test_parts_together_are_the_text_and_each_fits(text: str, room: int) -> None:
    for count in (len, words, lambda part: len(part.encode())):
        parts = parts_of(text, count, room)
        assert "".join(part.text for part in parts) == text
        assert all(part.size == count(part.text) <= room for part in parts)
        assert len(parts) == 1 or all(part.text for part in parts)


@given(st.integers(1, 60), st.integers(4, 12))
def test_words_stay_whole_and_parts_are_of_about_one_length(num_words: int, room: int) -> None:
    parts = parts_of("word " * num_words, words, room)
    assert sum(part.size for part in parts) == num_words
    assert len(parts) <= 2 * -(-num_words // room)


def test_what_fits_is_left_alone() -> None:
    assert parts_of("a few words", words, 3) == [Part("a few words", 3)]
    assert parts_of("", words, 3) == [Part("", 0)]


def test_a_character_that_does_not_fit_is_a_part() -> None:
    assert parts_of("🙂🙂", lambda text: len(text.encode()), 2) == [Part("🙂", 4), Part("🙂", 4)]
    assert [part.text for part in parts_of("abc", len, 0)] == ["a", "b", "c"]


def test_a_long_text_is_counted_few_times() -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return words(text)

    text = "some words of a long text " * 20_000
    assert max(part.size for part in parts_of(text, count, 100)) <= 100
    assert sum(counted) < 4 * len(text)
