"""Answers keep the tokens they were drawn as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.chat import generated_tokens as generated_tokens
from models.llm.chat.generated_tokens import GeneratedTokenCache
from models.llm.chat.prompt import Segment
from models.llm.chat.prompt_tokenizer import PromptTokenizer

END, CONTROL = 1, 2
PAIRS = 1000  # from here on, tokens of two letters


class Letters:
    """A vocabulary of letters, and of every pair of them; canonical are pairs, as far as they go."""

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


def spelled(text: str) -> list[int]:
    return list(text.encode())


@pytest.fixture
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer(Letters())


def test_the_next_prompt_has_the_answer_as_it_was_drawn(tokenizer: PromptTokenizer) -> None:
    turns = [Segment("ask:", is_content=False), Segment("so be it", is_content=True), Segment("ask", is_content=False)]
    before = tokenizer(turns)
    tokenizer.generated_tokens.learn("so be it", [*spelled("so be it"), END])
    tokens = tokenizer(turns)
    assert tokens == Letters().tokenize("ask:", parse_special=True) + spelled("so be it") + before[-2:]


def test_the_templates_own_text_stays_as_it_is(tokenizer: PromptTokenizer) -> None:
    tokenizer.generated_tokens.learn("said", spelled("said"))
    assert tokenizer([Segment("said", is_content=False)]) == Letters().tokenize("said", parse_special=True)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("cut", spelled("cut off")),
        ("ab", Letters().tokenize("ab", parse_special=False)),
        ("ab", [ord("a"), CONTROL, ord("b")]),
        ("", [END]),
        ("", []),
    ],
    ids=["stopped", "canonical", "control token", "only an end", "nothing"],
)
def test_what_need_not_or_may_not_be_kept_is_not(tokenizer: PromptTokenizer, text: str, tokens: list[int]) -> None:
    tokenizer.generated_tokens.learn(text, tokens)
    assert tokenizer.generated_tokens.of(text) is None


@given(st.lists(st.text("abc", min_size=2, max_size=30), max_size=40))
def test_the_latest_are_kept_within_the_limit(texts: list[str]) -> None:
    kept = GeneratedTokenCache(lambda text: Letters().tokenize(text, parse_special=False), Letters().piece)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated_tokens, "_MOST", 50)
        for text in texts:
            kept.learn(text, spelled(text))
            assert kept.of(text) == spelled(text)
    assert sum(len(text) for text in set(texts) if kept.of(text)) <= 50
