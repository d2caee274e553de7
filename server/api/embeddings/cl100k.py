"""Text of cl100k_base token ids.

LangChain's `OpenAIEmbeddings` and its imitations send token ids of OpenAI's encoding instead of text, for any model.
The table `cl100k.xz` holds the lengths of all tokens, a byte each, then their bytes; it is MIT-licensed
(`cl100k.LICENSE`).
"""

import functools
import itertools
import lzma
from collections.abc import Sequence
from pathlib import Path

_TABLE = Path(__file__).with_name("cl100k.xz")
_SIZE = 100_256
_SPECIAL = {
    100_257: b"<|endoftext|>",
    100_258: b"<|fim_prefix|>",
    100_259: b"<|fim_middle|>",
    100_260: b"<|fim_suffix|>",
    100_276: b"<|endofprompt|>",
}


class UnknownRank(Exception):
    def __init__(self, rank: int) -> None:
        super().__init__(f"no token {rank} in cl100k_base")
        self.rank = rank


@functools.cache
def tokens() -> tuple[bytes, ...]:
    """Return all tokens but the special ones, in the order of their ids."""
    table = lzma.decompress(_TABLE.read_bytes())
    ends = itertools.accumulate(table[:_SIZE], initial=_SIZE)
    return tuple(table[start:end] for start, end in itertools.pairwise(ends))


def decode_tokens(ranks: Sequence[int]) -> str:
    """Return the text of token ids. Bytes that are not UTF-8, as where a text was cut within a character, become
    U+FFFD. Raises `UnknownRank`."""
    return b"".join(map(_token, ranks)).decode(errors="replace")


def _token(rank: int) -> bytes:
    if 0 <= rank < _SIZE:
        return tokens()[rank]
    if rank not in _SPECIAL:
        raise UnknownRank(rank)
    return _SPECIAL[rank]
