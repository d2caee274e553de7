"""A text that is longer than a model reads, in parts that are not."""

import re
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

_SPACE = re.compile(r"\s")
_SLACK = 1.15  # parts are cut by characters and must fit by their count


class Part(NamedTuple):
    text: str
    size: int  # as counted


def parts_of(text: str, count: Callable[[str], int], room: int) -> list[Part]:
    """The text, or parts of it of about one length, each counted at most `room`; cut behind spaces where there are any.

    All parts together are the text. A single character stays whole, however it counts.
    """
    size = count(text)
    if size <= room or len(text) <= 1:
        return [Part(text, size)]
    num_pieces = ceil(_SLACK * size / max(room, 1))
    return [part for piece in _pieces(text, max(num_pieces, 2)) for part in parts_of(piece, count, room)]


def _pieces(text: str, num_pieces: int) -> list[str]:
    """Of about one length each; at least two."""
    length = -(-len(text) // num_pieces)
    pieces, start = [], 0
    while len(text) - start > length:
        end = _cut(text, start + 3 * length // 4, start + length)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def _cut(text: str, first: int, last: int) -> int:
    """Behind the last space between both, or at the end of it."""
    spaces = [found.end() for found in _SPACE.finditer(text, first, last)]
    return spaces[-1] if spaces else last
