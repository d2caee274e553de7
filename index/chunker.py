"""Blocks to chunks: small blocks of one section together, large ones cut by semchunk, never across a heading.
A table that is too large is cut between its rows, and each part after the first carries the table's header.

128 embedder tokens without overlap kept most of the reference text in a fixed context (docs/architecture.md, Index).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple

import semchunk

from index.lines import line_starts
from index.types import Block, Chunk, Parsed, Place, with_lead


class _Piece(NamedTuple):
    start: int
    end: int
    place: Place | None
    lead: str  # of a table's row after its header


class Chunker:
    """`limit` is in tokens as `count_tokens` counts them."""

    def __init__(self, count_tokens: Callable[[str], int], limit: int) -> None:
        self._count = count_tokens
        self._limit = limit

    def chunks(self, parsed: Parsed) -> list[Chunk]:
        """In order; each is exactly a span of the canonical text."""
        starts = line_starts(parsed.text)

        def chunk(piece: _Piece, heading: tuple[str, ...]) -> Chunk:
            start, end, place, lead = piece
            first, last = bisect_right(starts, start), bisect_right(starts, end - 1)
            return Chunk(parsed.text[start:end], heading, start, end, first, last, place, lead)

        return [
            chunk(piece, heading)
            for (_, heading), blocks in groupby(parsed.blocks, key=lambda block: (block.section, block.heading))
            for piece in self._merge(parsed.text, self._pieces(parsed.text, blocks))
        ]

    def _pieces(self, text: str, blocks: Iterator[Block]) -> Iterator[_Piece]:
        """Spans that fit the limit each. A table that fits is one; of another, every row is."""
        for lead, group in groupby(blocks, key=lambda block: block.lead):
            if lead is None:
                for block in group:
                    yield from self._cut(text, _Piece(block.start, block.end, block.place, ""))
                continue
            rows = list(group)
            table = _Piece(rows[0].start, rows[-1].end, _both(rows[0].place, rows[-1].place), self._lead(text, rows[0]))
            if self._fits(text, table):
                yield table
                continue
            for row in rows:
                yield from self._cut(text, _Piece(row.start, row.end, row.place, self._lead(text, row)))

    def _lead(self, text: str, row: Block) -> str:
        """The header over a row; none over itself, nor one that would leave too little room for rows."""
        assert row.lead is not None
        start, end = row.lead
        return text[start:end] if row.start >= end and 2 * self._count(text[start:end]) <= self._limit else ""

    def _cut(self, text: str, piece: _Piece) -> Iterator[_Piece]:
        """Whole, or where it is larger than the limit by itself, also a single row, as semchunk cuts it."""
        if self._fits(text, piece):
            yield piece
            return
        room = self._limit - (self._count(f"{piece.lead}\n") if piece.lead else 0)
        body = text[piece.start : piece.end]
        _, offsets = semchunk.chunk(body, room, self._count, memoize=False, offsets=True)
        for start, end in offsets:
            yield piece._replace(start=piece.start + start, end=piece.start + end)

    def _fits(self, text: str, piece: _Piece) -> bool:
        return self._count(with_lead(piece.lead, text[piece.start : piece.end])) <= self._limit

    def _merge(self, text: str, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
        """Neighbours together as long as the whole, with what lies between them, fits the limit."""
        current: _Piece | None = None
        for piece in pieces:
            if current is not None:
                joined = current._replace(end=piece.end, place=_both(current.place, piece.place))
                if _are_told_as_one(current.place, piece.place) and self._fits(text, joined):
                    current = joined
                    continue
                yield current
            current = piece
        if current is not None:
            yield current


def _are_told_as_one(first: Place | None, second: Place | None) -> bool:
    return first is second is None or (first is not None and second is not None and first.adjoins(second))


def _both(first: Place | None, second: Place | None) -> Place | None:
    """From the one to the other."""
    return first if first is None or second is None else first._replace(last=second.last)
