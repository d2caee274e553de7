"""Split a text that is longer than a model reads into parts that are not."""

import re
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

_SPACE = re.compile(r"\s")
_MARGIN = 1.15  # more parts than the token count asks for: they are cut by characters, and must fit by tokens


class Part(NamedTuple):
    text: str
    num_tokens: int


def split_into_parts(text: str, count_tokens: Callable[[str], int], max_tokens: int) -> list[Part]:
    """Return the text as parts of about equal length and at most `max_tokens` tokens, cut behind spaces if possible.

    The parts joined are the text. A single character stays whole, however many tokens it has.
    """
    num_tokens = count_tokens(text)
    if num_tokens <= max_tokens or len(text) <= 1:
        return [Part(text, num_tokens)]
    num_pieces = max(ceil(_MARGIN * num_tokens / max(max_tokens, 1)), 2)
    return [part for piece in _cut(text, num_pieces) for part in split_into_parts(piece, count_tokens, max_tokens)]


def _cut(text: str, num_pieces: int) -> list[str]:
    """Cut the text into at least two pieces of about equal length."""
    length = -(-len(text) // num_pieces)
    pieces, start = [], 0
    while len(text) - start > length:
        end = _cut_position(text, start + 3 * length // 4, start + length)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def _cut_position(text: str, first: int, last: int) -> int:
    """Return the position behind the last space in [first, last), or `last` if there is no space."""
    spaces = [match.end() for match in _SPACE.finditer(text, first, last)]
    return spaces[-1] if spaces else last
