"""Prompts that fill a gap: their order, and what fits into the room."""

from hypothesis import given
from hypothesis import strategies as st

from models.llm.chat.fim import Extra, Gap, fill
from models.llm.gguf.info import FimTokens

PRE, SUF, MID, REP, SEP, BOS = range(10_000, 10_006)
ONE_FILE, FILES = FimTokens(PRE, SUF, MID), FimTokens(PRE, SUF, MID, REP, SEP)


def tokenize(text: str) -> list[int]:
    """Return a token for each character."""
    return [ord(character) for character in text]


def text_of(tokens: list[int]) -> str:
    names = dict(zip(range(PRE, BOS + 1), ["<P>", "<S>", "<M>", "<R>", "<F>", "<B>"], strict=True))
    return "".join(names.get(token) or chr(token) for token in tokens)


def test_a_prompt_without_other_files_is_prefix_suffix_middle() -> None:
    for tokens in (ONE_FILE, FILES):
        assert text_of(fill(Gap("def ", "()"), tokens, tokenize, 100)) == "<P>def <S>()<M>"
    assert text_of(fill(Gap("a", ""), FILES, tokenize, 100, BOS)) == "<B><P>a<S><M>"


def test_other_files_come_before_the_gap() -> None:
    gap = Gap("a", "b", [Extra("one", "one.py"), Extra("two")])
    expected = "<R>project\n<F>one.py\none<F>tmp\ntwo<F>filename\n<P>a<S>b<M>"
    assert text_of(fill(gap, FILES, tokenize, 200)) == expected
    assert text_of(fill(gap, ONE_FILE, tokenize, 200)) == (
        "\n\n--- snippet ---\n\none\n\n--- snippet ---\n\ntwo<P>a<S>b<M>"
    )


def test_files_that_are_named_first_are_left_out_first() -> None:
    gap = Gap("a", "b", [Extra("x" * 40, "one"), Extra("y" * 40, "two")])
    prompt = text_of(fill(gap, FILES, tokenize, 90))
    assert "y" * 40 in prompt
    assert "x" not in prompt


def test_the_prompt_keeps_its_beginning_while_more_is_typed() -> None:
    text = "".join(chr(300 + i % 500) for i in range(1000))
    prompts = [text_of(fill(Gap(text[:end], "z"), ONE_FILE, tokenize, 103)) for end in range(600, 625)]
    assert len({prompt[3] for prompt in prompts}) <= 3
    assert all(prompt.endswith(f"{text[end - 1]}<S>z<M>") for end, prompt in enumerate(prompts, 600))


@given(st.text(max_size=300), st.text(max_size=300), st.lists(st.text(max_size=60), max_size=5), st.integers(40, 400))
def test_a_prompt_fits_the_room_with_the_text_nearest_to_the_gap(
    before: str, after: str, extra: list[str], room: int
) -> None:
    gap = Gap(before, after, [Extra(text) for text in extra])
    for kind in (ONE_FILE, FILES):
        tokens = fill(gap, kind, tokenize, room, BOS)
        assert len(tokens) <= room
        assert tokens[0] == BOS
        assert [tokens.count(mark) for mark in kind[:3]] == [1, 1, 1]
        pre, suf = tokens.index(PRE), tokens.index(SUF)
        assert tokenize(before)[len(before) - (suf - pre - 1) :] == tokens[pre + 1 : suf]
        assert tokenize(after)[: len(tokens) - suf - 2] == tokens[suf + 1 : -1]
        assert tokens[-1] == MID
