"""The vendored table of cl100k_base."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.embeddings.cl100k import UnknownRank, decode_tokens, tokens

PUBLISHED = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"  # in tiktoken's own source


def test_the_table_is_the_published_one_byte_for_byte() -> None:
    lines = (base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens()))
    assert hashlib.sha256(b"".join(lines)).hexdigest() == PUBLISHED


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ([9906, 1917], "Hello world"),
        ([57668, 53901], "你好"),
        ([57668], "你"),
        ([100257, 100276], "<|endoftext|><|endofprompt|>"),
        ([], ""),
    ],
)
def test_token_ids_decode_to_their_text(ranks: list[int], text: str) -> None:
    assert decode_tokens(ranks) == text


@pytest.mark.parametrize("rank", [-1, 100_256, 100_261, 100_277, 2**70])
def test_an_unknown_token_id_is_named_in_the_error(rank: int) -> None:
    with pytest.raises(UnknownRank) as caught:
        decode_tokens([0, rank])
    assert caught.value.rank == rank


def test_decoding_inverts_tiktoken() -> None:
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {token: rank for rank, token in enumerate(tokens())}
    encoding = tiktoken.Encoding("cl100k", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={})

    @given(st.text(max_size=80))
    def check(text: str) -> None:
        assert decode_tokens(encoding.encode(text)) == text

    check()


def test_a_cut_character_decodes_to_the_replacement_character() -> None:
    cut = next(rank for rank, token in enumerate(tokens()) if token == b"\xe4")
    assert decode_tokens([9906, cut]) == "Hello�"
