"""The vocabulary of the built-in model, and of other models where these are installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import resolve_chat
from models.llm.llama.vocabulary import Vocabulary

BUILTIN = resolve_chat("reader-v1").path
OTHER_VOCABULARIES = sorted((Path(__file__).parents[5] / "shared" / "vocab").glob("*.gguf"))


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[Vocabulary]:
    with Vocabulary(BUILTIN) as vocabulary:
        yield vocabulary


@pytest.fixture(scope="module")
def controls(vocabulary: Vocabulary) -> dict[int, str]:
    return control_tokens(vocabulary)


def control_tokens(vocabulary: Vocabulary) -> dict[int, str]:
    """Return the control tokens by id: those with a name and no text."""
    names = ((token, vocabulary.piece(token, special=True)) for token in range(vocabulary.size))
    return {token: name.decode() for token, name in names if name and not vocabulary.piece(token)}


def test_the_vocabulary_has_size_end_tokens_and_metadata(vocabulary: Vocabulary) -> None:
    assert vocabulary.size == 8192
    assert vocabulary.eos in vocabulary.end_tokens
    assert vocabulary.metadata("general.architecture") == "llama"
    assert vocabulary.metadata("no.such.key") is None
    assert vocabulary.chat_template is not None
    assert "add_generation_prompt" in vocabulary.chat_template


@given(text=st.text())
def test_pieces_of_a_text_s_tokens_are_the_text(vocabulary: Vocabulary, text: str) -> None:
    tokens = vocabulary.tokenize(text, parse_special=False)
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "naïve café", "🦊🏳️‍🌈", "日本語", "a" * 20_000, "\n\n\t  \r\n"])
def test_pieces_of_unusual_text_are_the_text(vocabulary: Vocabulary, text: str) -> None:
    tokens = vocabulary.tokenize(text, parse_special=False)
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text


def test_an_unpaired_surrogate_is_replaced(vocabulary: Vocabulary) -> None:
    assert vocabulary.tokenize("a\ud800b", parse_special=False) == vocabulary.tokenize("a?b", parse_special=False)


def test_parse_special_reads_control_tokens_by_name(vocabulary: Vocabulary, controls: dict[int, str]) -> None:
    assert {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"} <= set(controls.values())
    for token, name in controls.items():
        assert vocabulary.tokenize(name, parse_special=True) == [token]


@given(parts=st.lists(st.text(max_size=8) | st.integers(0, 4), max_size=8))
def test_content_never_becomes_a_control_token(
    vocabulary: Vocabulary, controls: dict[int, str], parts: list[str | int]
) -> None:
    names = list(controls.values())
    text = "".join(names[part] if isinstance(part, int) else part for part in parts)
    tokens = vocabulary.tokenize(text, parse_special=False)
    assert not set(tokens) & set(controls)
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text


@pytest.mark.parametrize("path", OTHER_VOCABULARIES, ids=lambda path: path.stem)
def test_content_never_becomes_a_control_token_of_another_model(path: Path) -> None:
    with Vocabulary(path) as vocabulary:
        controls = control_tokens(vocabulary)
        assert controls
        for name in controls.values():
            for text in (name, f"a{name}b", f" {name}\n{name}"):
                assert not set(vocabulary.tokenize(text, parse_special=False)) & set(controls)


def test_closing_a_vocabulary_twice_does_nothing() -> None:
    with Vocabulary(BUILTIN) as vocabulary:
        vocabulary.close()
