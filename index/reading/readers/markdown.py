"""Markdown: CommonMark with tables, parsed by markdown-it-py; blocks under their headings, tables row by row."""

import re
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from index.reading.lines import line_starts
from index.reading.readers.text import decode
from index.types import Block, ParsedDocument

# Lines between two rules, none of them blank: rules around paragraphs are no front matter.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?:(?!(?:---|\.\.\.)[ \t]*$).*\S.*\n)+(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE
)

_PROSE = {"paragraph_open", "bullet_list_open", "ordered_list_open", "blockquote_open"}


def read(content: bytes, suffix: str) -> ParsedDocument:
    return read_markdown(decode(content))


def read_markdown(text: str, headings: list[str] | None = None) -> ParsedDocument:
    """Read a text, or a part of one that begins under `headings`, which then become those at its end.

    The index in `headings` is the depth from 0; "" stands for a level that was skipped.
    """
    headings = [] if headings is None else headings
    tokens = MarkdownIt("commonmark").enable("table").parse(_blank_front_matter(text))
    starts = [*line_starts(text), len(text)]
    blocks: list[Block] = []
    bare_heading: Block | None = None  # that nothing has followed yet; it becomes a block if nothing does
    title: str | None = None
    section = 0
    for at, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        section += token.type == "heading_open"
        block = _block(text, starts, token, headings)._replace(section=section, is_prose=token.type in _PROSE)
        if token.type == "heading_open":
            depth = int(token.tag[1:])
            if bare_heading is not None and depth <= len(headings):
                blocks.append(bare_heading)
            name = _plain(tokens[at + 1])
            headings[depth - 1 :] = [*[""] * (depth - 1 - len(headings)), name]
            title = title or name
            bare_heading = block._replace(heading=_path(headings[:-1]))
        elif block.start < block.end:
            blocks += _rows(text, starts, tokens, at, block) if token.type == "table_open" else [block]
            bare_heading = None
    if bare_heading is not None:
        blocks.append(bare_heading)
    return ParsedDocument(text, blocks, title)


def _blank_front_matter(text: str) -> str:
    """Replace front matter, which is about the document, by blank lines, so that line numbers stay."""
    match = _FRONT_MATTER.match(text)
    return text if match is None else "\n" * match.group().count("\n") + text[match.end() :]


def _block(text: str, starts: list[int], token: Token, headings: list[str]) -> Block:
    """Return the block of a token's lines, without empty lines around it."""
    assert token.map is not None
    first, last = token.map
    start, end = starts[first], starts[min(last, len(starts) - 1)]
    body = text[start:end]
    start += len(body) - len(body.lstrip("\n"))
    return Block(start, start + len(text[start:end].rstrip()), _path(headings))


def _rows(text: str, starts: list[int], tokens: list[Token], at: int, table: Block) -> list[Block]:
    """Return the blocks of a table: its header, with the rule beneath it, and its rows."""
    end = next(i for i in range(at, len(tokens)) if tokens[i].type == "table_close")
    lines = [token.map[0] for token in tokens[at:end] if token.type == "tr_open" and token.map is not None]
    bounds = [table.start, *(starts[line] for line in lines[1:]), table.end]
    spans = [(start, start + len(text[start:stop].rstrip())) for start, stop in pairwise(bounds)]
    return [table._replace(start=start, end=stop, lead=spans[0]) for start, stop in spans if start < stop]


def _path(headings: list[str]) -> tuple[str, ...]:
    return tuple(name for name in headings if name)


def _plain(inline: Token) -> str:
    """Return a heading's words without their markup."""
    parts = inline.children or []
    return "".join(
        part.content if part.type in ("text", "code_inline") else " " for part in parts if part.content
    ).strip()
