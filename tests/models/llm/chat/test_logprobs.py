"""The alignment of tokens with emitted text, whatever is held back or emitted out."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from models.llm.chat.logprobs import Candidate, ScoredToken, TokenAlignment, candidate


def token(text: str) -> ScoredToken:
    return ScoredToken(text, Candidate(text.encode(), -1.0))


def texts(tokens: Sequence[ScoredToken]) -> list[str]:
    return [token.text for token in tokens]


@given(st.lists(st.text(alphabet="ab", max_size=3), max_size=20), st.lists(st.integers(0, 6), max_size=20))
def test_every_token_is_emitted_once_and_in_order_if_no_text_is_left_out(pieces: list[str], holds: list[int]) -> None:
    alignment, pending, emitted = TokenAlignment(), "", []
    for i, piece in enumerate(pieces):
        alignment.push([token(piece)])
        pending += piece
        size = max(0, len(pending) - (holds[i] if i < len(holds) else 0))
        emitted += texts(alignment.take(pending[:size], len(pending) - size))
        pending = pending[size:]
    emitted += texts(alignment.take(pending, 0))
    assert [text for text in emitted if text] == [piece for piece in pieces if piece]


def test_text_that_is_left_out_takes_its_tokens_along() -> None:
    alignment = TokenAlignment()
    alignment.push([token("<thi"), token("nk>"), token("Hi"), token(" you"), token("</s>")])
    assert texts(alignment.take("Hi you", 0)) == ["Hi", " you"]
    alignment.push([token("!")])
    assert texts(alignment.take("!", 0)) == ["!"]


def test_a_token_is_emitted_with_its_first_character() -> None:
    alignment = TokenAlignment()
    alignment.push([token("abc<")])
    assert texts(alignment.take("abc", 1)) == ["abc<"]
    alignment.push([token("def")])
    assert texts(alignment.take("<def", 0)) == ["def"]


def test_a_token_that_ends_within_a_character_is_emitted_with_the_character() -> None:
    alignment = TokenAlignment()
    alignment.push([token("a"), token("")])
    assert texts(alignment.take("a", 0)) == ["a"]
    alignment.push([token("🦊")])
    assert texts(alignment.take("🦊", 0)) == ["", "🦊"]


def test_the_logprob_of_an_impossible_token_is_finite() -> None:
    assert candidate(b"x", float("-inf")).logprob == -9999.0
    assert candidate(b"\xf0\x9f", -0.5).text == "\ufffd"
