"""Cut the blocks of a document into chunks.

Small blocks of one section are joined, large ones are cut by semchunk, and no chunk crosses a heading. A table that is
too large is cut between its rows, and each part after the first carries the table's header. 128 embedder tokens without
overlap kept most of the reference text in a fixed context (docs/architecture.md, Index). A document with a `Chunking`
of its own is cut into overlapping windows over the same blocks, which may cross headings.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import semchunk

from index.params import Chunking
from index.reading.lines import UnwrappedText, line_starts, unwrap
from index.types import Block, Chunk, Location, ParsedDocument, with_lead

_MIN_GRAIN_TOKENS = 16
_MIN_GRAINS = 8  # of which a window consists


class _Piece(NamedTuple):
    """A span of the text that fits the limit, and becomes a chunk alone or with its neighbours."""

    start: int
    end: int
    place: Location | None
    lead: str  # the header of the table whose later rows this is, else ""
    is_prose: bool = False


class _Grain(NamedTuple):
    """A short span that windows are made of. `weight` counts its tokens and those between it and the next."""

    start: int
    end: int
    heading: tuple[str, ...]
    place: Location | None
    lead: str
    weight: int


class Chunker:
    """Cuts documents into chunks of at most `limit` tokens, as `count_tokens` counts them."""

    def __init__(self, count_tokens: Callable[[str], int], limit: int) -> None:
        self._count = count_tokens
        self._limit = limit

    def chunks(self, parsed: ParsedDocument, chunking: Chunking | None = None) -> list[Chunk]:
        """Return the chunks in order; each is exactly a span of the canonical text.

        With `chunking` they are windows, and the limit and the headings do not matter.
        """
        starts = line_starts(parsed.text)

        def chunk(piece: _Piece, heading: tuple[str, ...]) -> Chunk:
            start, end, place, lead, _ = piece
            first, last = bisect_right(starts, start), bisect_right(starts, end - 1)
            return Chunk(parsed.text[start:end], heading, start, end, first, last, place, lead)

        if chunking is not None:
            return [chunk(piece, heading) for piece, heading in self._windows(parsed, chunking)]
        return [
            chunk(piece, heading)
            for (_, heading), blocks in groupby(parsed.blocks, key=lambda block: (block.section, block.heading))
            for piece in self._merge(parsed.text, self._pieces(parsed.text, blocks))
        ]

    def _pieces(self, text: str, blocks: Iterator[Block]) -> Iterator[_Piece]:
        """Yield spans that fit the limit. A table that fits is one span; in another, every row is."""
        for lead, group in groupby(blocks, key=lambda block: block.lead):
            if lead is None:
                for block in group:
                    yield from self._cut(text, _Piece(block.start, block.end, block.place, "", block.is_prose))
                continue
            rows = list(group)
            table = _Piece(
                rows[0].start, rows[-1].end, _span_of(rows[0].place, rows[-1].place), self._lead(text, rows[0])
            )
            if self._fits(text, table):
                yield table
                continue
            for row in rows:
                yield from self._cut(text, _Piece(row.start, row.end, row.place, self._lead(text, row)))

    def _lead(self, text: str, row: Block) -> str:
        """Return the header over a row; "" for the header itself, and for one that leaves too little room for rows."""
        assert row.lead is not None
        start, end = row.lead
        return text[start:end] if row.start >= end and 2 * self._count(text[start:end]) <= self._limit else ""

    def _cut(self, text: str, piece: _Piece) -> Iterator[_Piece]:
        """Yield the piece, or its parts as semchunk cuts them when it is larger than the limit."""
        if self._fits(text, piece):
            yield piece
            return
        room = self._limit - (self._count(f"{piece.lead}\n") if piece.lead else 0)
        for start, end in self._spans(text[piece.start : piece.end], room, is_prose=piece.is_prose):
            yield piece._replace(start=piece.start + start, end=piece.start + end)

    def _spans(self, body: str, limit: int, *, is_prose: bool) -> Iterator[tuple[int, int]]:
        """Yield spans of at most `limit` tokens. Hard-wrapped prose is unwrapped first, to be cut at sentence ends."""
        unwrapped = unwrap(body) if is_prose else UnwrappedText(body, list(range(len(body))))
        _, offsets = semchunk.chunk(unwrapped.text, limit, self._count, memoize=False, offsets=True)
        for start, end in offsets:
            span = unwrapped.origin[start], unwrapped.origin[end - 1] + 1
            if (
                is_prose and self._count(body[slice(*span)]) > limit
            ):  # a line break can count for more tokens than a space
                inner = self._spans(body[slice(*span)], limit, is_prose=False)
                yield from ((span[0] + first, span[0] + last) for first, last in inner)
            else:
                yield span

    def _fits(self, text: str, piece: _Piece) -> bool:
        return self._count(with_lead(piece.lead, text[piece.start : piece.end])) <= self._limit

    def _windows(self, parsed: ParsedDocument, chunking: Chunking) -> Iterator[tuple[_Piece, tuple[str, ...]]]:
        """Yield windows with the headings that all of each stands under; locations that do not adjoin stay apart."""
        grains, first, reached = list(self._grains(parsed, chunking)), 0, 0
        while reached < len(grains):
            end, size = first, self._count(grains[first].lead) if grains[first].lead else 0
            while end < len(grains) and (
                end == first
                or (size + grains[end].weight <= chunking.size and _are_neighbours(grains[end - 1], grains[end]))
            ):
                size += grains[end].weight
                end += 1
            if end > reached:
                window = grains[first:end]
                place = _span_of(window[0].place, window[-1].place)
                yield _Piece(window[0].start, window[-1].end, place, window[0].lead), _common_heading(window)
                reached, first = end, self._next_start(grains, first, end, chunking)
            else:  # the overlap leaves no room for what comes next
                first += 1

    def _next_start(self, grains: Sequence[_Grain], first: int, end: int, chunking: Chunking) -> int:
        """Return where the next window begins: as far before the end of this one as the overlap allows."""
        size, at = 0, end
        if end == len(grains) or not _are_neighbours(grains[end - 1], grains[end]):
            return end
        while at - 1 > first and size + grains[at - 1].weight <= chunking.overlap:
            at -= 1
            size += grains[at].weight
        return at

    def _grains(self, parsed: ParsedDocument, chunking: Chunking) -> Iterator[_Grain]:
        """Yield the blocks, cut small enough that windows can end close to their size."""
        text = parsed.text
        limit = max(_MIN_GRAIN_TOKENS, min(chunking.size, chunking.overlap or chunking.size) // _MIN_GRAINS)
        pieces: list[tuple[int, int, Block]] = []
        for block in parsed.blocks:
            body = text[block.start : block.end]
            if self._count(body) <= limit:
                pieces.append((block.start, block.end, block))
                continue
            spans = self._spans(body, limit, is_prose=block.is_prose)
            pieces += [(block.start + start, block.start + end, block) for start, end in spans]
        bounds = [*(start for start, _, _ in pieces), pieces[-1][1] if pieces else 0]
        for (start, end, block), (here, there) in zip(pieces, pairwise(bounds), strict=True):
            lead = "" if block.lead is None else self._lead(text, block)
            yield _Grain(start, end, block.heading, block.place, lead, self._count(text[here:there]))

    def _merge(self, text: str, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
        """Join neighbours as long as the whole, with the text between them, fits the limit."""
        current: _Piece | None = None
        for piece in pieces:
            if current is not None:
                joined = current._replace(end=piece.end, place=_span_of(current.place, piece.place))
                if _adjoin(current.place, piece.place) and self._fits(text, joined):
                    current = joined
                    continue
                yield current
            current = piece
        if current is not None:
            yield current


def _are_neighbours(first: _Grain, second: _Grain) -> bool:
    return _adjoin(first.place, second.place)


def _common_heading(window: Sequence[_Grain]) -> tuple[str, ...]:
    """Return the headings that all grains stand under."""
    common: list[str] = []
    for names in zip(*(grain.heading for grain in window), strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return tuple(common)


def _adjoin(first: Location | None, second: Location | None) -> bool:
    return first is second is None or (first is not None and second is not None and first.adjoins(second))


def _span_of(first: Location | None, second: Location | None) -> Location | None:
    """Return the location from the first to the second."""
    return first if first is None or second is None else first._replace(last=second.last)
