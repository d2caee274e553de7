"""The cache of generated tokens, and prompts that reuse them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.chat import generated_tokens
from models.llm.chat.generated_tokens import GeneratedTokenCache
from models.llm.chat.prompt import Segment
from models.llm.chat.prompt_tokenizer import PromptTokenizer

END, CONTROL = 1, 2
PAIRS = 1000  # from here on, tokens of two letters


class Letters:
    """A vocabulary of letters and of every pair of letters. Its tokenizer prefers pairs."""

    adds_bos = False
    bos = -1

    def piece(self, token: int, *, special: bool = False) -> bytes:
        if token in (END, CONTROL):
            return b"<end>" if special else b""
        return (
            divmod(token, PAIRS)[0].to_bytes() + divmod(token, PAIRS)[1].to_bytes()
            if token >= PAIRS
            else bytes([token])
        )

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        data = text.encode()
        pairs = [PAIRS * data[at] + data[at + 1] for at in range(0, len(data) - 1, 2)]
        return pairs + list(data[len(data) - len(data) % 2 :])


def letters_of(text: str) -> list[int]:
    return list(text.encode())


@pytest.fixture
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer(Letters())


def test_the_next_prompt_has_the_answer_with_the_tokens_it_was_drawn_as(tokenizer: PromptTokenizer) -> None:
    turns = [Segment("ask:", is_content=False), Segment("so be it", is_content=True), Segment("ask", is_content=False)]
    before = tokenizer(turns)
    tokenizer.generated_tokens.add("so be it", [*letters_of("so be it"), END])
    tokens = tokenizer(turns)
    assert tokens == Letters().tokenize("ask:", parse_special=True) + letters_of("so be it") + before[-2:]


def test_cached_tokens_are_not_used_for_text_of_the_template(tokenizer: PromptTokenizer) -> None:
    tokenizer.generated_tokens.add("text", letters_of("text"))
    assert tokenizer([Segment("text", is_content=False)]) == Letters().tokenize("text", parse_special=True)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("cut", letters_of("cut off")),
        ("ab", Letters().tokenize("ab", parse_special=False)),
        ("ab", [ord("a"), CONTROL, ord("b")]),
        ("", [END]),
        ("", []),
    ],
    ids=["stopped", "canonical", "control token", "only an end", "nothing"],
)
def test_answers_that_are_cut_canonical_or_empty_are_not_cached(
    tokenizer: PromptTokenizer, text: str, tokens: list[int]
) -> None:
    tokenizer.generated_tokens.add(text, tokens)
    assert tokenizer.generated_tokens.get(text) is None


@given(st.lists(st.text("abc", min_size=2, max_size=30), max_size=40))
def test_the_latest_answers_are_cached_within_the_limit(texts: list[str]) -> None:
    cache = GeneratedTokenCache(lambda text: Letters().tokenize(text, parse_special=False), Letters().piece)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated_tokens, "_MAX_TOKENS", 50)
        for text in texts:
            cache.add(text, letters_of(text))
            assert cache.get(text) == letters_of(text)
    assert sum(len(text) for text in set(texts) if cache.get(text)) <= 50
