"""Splitting texts into parts that a model can read."""

from hypothesis import given
from hypothesis import strategies as st

from models.encoder.parts import Part, split_into_parts


def count_words(text: str) -> int:
    return len(text.split())


@given(st.text("ab \n", max_size=300), st.integers(1, 20))
def test_parts_joined_are_the_text_and_each_fits(text: str, max_tokens: int) -> None:
    for count in (len, count_words, lambda part: len(part.encode())):
        parts = split_into_parts(text, count, max_tokens)
        assert "".join(part.text for part in parts) == text
        assert all(part.num_tokens == count(part.text) <= max_tokens for part in parts)
        assert len(parts) == 1 or all(part.text for part in parts)


@given(st.integers(1, 60), st.integers(4, 12))
def test_cuts_are_behind_spaces_and_parts_are_few(num_words: int, max_tokens: int) -> None:
    parts = split_into_parts("word " * num_words, count_words, max_tokens)
    assert sum(part.num_tokens for part in parts) == num_words
    assert len(parts) <= 2 * -(-num_words // max_tokens)


def test_a_text_that_fits_is_one_part() -> None:
    assert split_into_parts("a few words", count_words, 3) == [Part("a few words", 3)]
    assert split_into_parts("", count_words, 3) == [Part("", 0)]


def test_a_single_character_is_a_part_even_if_it_does_not_fit() -> None:
    assert split_into_parts("🙂🙂", lambda text: len(text.encode()), 2) == [Part("🙂", 4), Part("🙂", 4)]
    assert [part.text for part in split_into_parts("abc", len, 0)] == ["a", "b", "c"]


def test_splitting_counts_each_character_less_than_4_times() -> None:
    lengths: list[int] = []

    def count(text: str) -> int:
        lengths.append(len(text))
        return count_words(text)

    text = "some words of a long text " * 20_000
    assert max(part.num_tokens for part in split_into_parts(text, count, 100)) <= 100
    assert sum(lengths) < 4 * len(text)
