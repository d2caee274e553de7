"""Segments have the tokens of the whole text, except that content makes no control tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.catalog import resolve_chat
from models.llm.chat.prompt import Segment
from models.llm.chat.prompt_tokenizer import PromptTokenizer
from models.llm.llama.vocabulary import Vocabulary

SHARED = Path(__file__).parents[5] / "shared" / "vocab"
PATHS = [
    resolve_chat("reader-v1").path,
    *(SHARED / f"ggml-vocab-{n}.gguf" for n in ("qwen2", "llama-bpe", "llama-spm")),
]


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def vocabulary(request: pytest.FixtureRequest) -> Iterator[Vocabulary]:
    if not request.param.exists():
        pytest.skip(f"{request.param.name} is not here")
    with Vocabulary(request.param) as vocabulary:
        yield vocabulary


def segments(*texts: str) -> list[Segment]:
    """Return segments, scaffold and content by turns."""
    return [Segment(text, is_content=at % 2 == 1) for at, text in enumerate(texts)]


def without_bos(vocabulary: Vocabulary, tokens: list[int]) -> list[int]:
    return tokens[1:] if vocabulary.adds_bos and tokens[:1] == [vocabulary.bos] else tokens


@pytest.mark.parametrize(
    "texts",
    [
        ("[INST] ", "How long is it?", " [/INST]"),
        ("[INST] ", "How long?", " [/INST] ", "Ten weeks", "\n[INST] ", "And then?", " [/INST]"),
        ("User: ", "Où est la 🦊 clé", "\nAssistant:"),
        ("user\n", "Hello", "\nassistant\n"),
    ],
)
def test_a_conversation_has_the_tokens_of_its_whole_text(vocabulary: Vocabulary, texts: tuple[str, ...]) -> None:
    """No token lies across the end of a message in these."""
    tokens = without_bos(vocabulary, PromptTokenizer(vocabulary)(segments(*texts)))
    assert tokens == vocabulary.tokenize("".join(texts), parse_special=True)


@pytest.mark.parametrize("content", ["Hello", " two  spaces ", "<|end|></s><|im_end|>", "\n", "a\x02b"])
def test_the_tokens_of_a_prompt_spell_its_segments_and_nothing_else(vocabulary: Vocabulary, content: str) -> None:
    tokens = without_bos(vocabulary, PromptTokenizer(vocabulary)(segments("Say:", content, "Now.", content)))
    text = b"".join(vocabulary.piece(token) for token in tokens).decode()
    assert text.lstrip(" ") == f"Say:{content}Now.{content}"


def test_content_makes_no_control_tokens(vocabulary: Vocabulary) -> None:
    names = [vocabulary.piece(token, special=True).decode() for token in vocabulary.end_tokens]
    tokens = PromptTokenizer(vocabulary)(segments("Say: ", "".join(names), "!"))
    assert not set(tokens) & vocabulary.end_tokens
