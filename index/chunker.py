"""Blocks to chunks: small blocks of one section together, large ones cut by semchunk, never across a heading.

128 embedder tokens without overlap kept most of the reference text in a fixed context (docs/architecture.md, Index).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import groupby

import semchunk

from index.lines import line_starts
from index.types import Block, Chunk, Parsed


class Chunker:
    """`limit` is in tokens as `count_tokens` counts them."""

    def __init__(self, count_tokens: Callable[[str], int], limit: int) -> None:
        self._count = count_tokens
        self._limit = limit
        self._split = semchunk.chunkerify(count_tokens, limit, memoize=False)

    def chunks(self, parsed: Parsed) -> list[Chunk]:
        """In order; each is exactly a span of the canonical text."""
        starts = line_starts(parsed.text)

        def chunk(span: tuple[int, int], heading: tuple[str, ...]) -> Chunk:
            start, end = span
            first, last = bisect_right(starts, start), bisect_right(starts, end - 1)
            return Chunk(parsed.text[start:end], heading, start, end, first, last)

        return [
            chunk(span, heading)
            for (_, heading), blocks in groupby(parsed.blocks, key=lambda block: (block.section, block.heading))
            for span in self._merge(parsed.text, self._pieces(parsed.text, blocks))
        ]

    def _pieces(self, text: str, blocks: Iterator[Block]) -> Iterator[tuple[int, int]]:
        """Spans that fit the limit each."""
        for block in blocks:
            body = text[block.start : block.end]
            if self._count(body) <= self._limit:
                yield block.start, block.end
            else:
                _, offsets = self._split(body, offsets=True)
                for start, end in offsets:
                    yield block.start + start, block.start + end

    def _merge(self, text: str, pieces: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Neighbours together as long as the whole, with what lies between them, fits the limit."""
        current: tuple[int, int] | None = None
        for start, end in pieces:
            if current is not None and self._count(text[current[0] : end]) <= self._limit:
                current = current[0], end
                continue
            if current is not None:
                yield current
            current = start, end
        if current is not None:
            yield current
