"""Markdown: CommonMark with tables, by markdown-it-py; top-level blocks under their headings."""

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

from index.lines import line_starts
from index.types import Block, Parsed

# Between rules, without a blank line: a rule with text around it is no front matter.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?:(?!(?:---|\.\.\.)[ \t]*$).*\S.*\n)+(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE
)


def read_markdown(text: str) -> Parsed:
    tokens = MarkdownIt("commonmark").enable("table").parse(_blank_front_matter(text))
    starts = [*line_starts(text), len(text)]
    headings: list[str] = []  # index = depth; "" where a level was skipped
    blocks: list[Block] = []
    bare: Block | None = None  # a heading that nothing has followed yet; it is then a block of its own
    title: str | None = None
    section = 0
    for at, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        section += token.type == "heading_open"
        block = _block(text, starts, token, headings)._replace(section=section)
        if token.type == "heading_open":
            depth = int(token.tag[1:])
            if bare is not None and depth <= len(headings):
                blocks.append(bare)
            name = _plain(tokens[at + 1])
            headings = [*headings[: depth - 1], *[""] * (depth - 1 - len(headings)), name]
            title = title or name
            bare = block._replace(heading=_path(headings[:-1]))
        elif block.start < block.end:
            blocks.append(block)
            bare = None
    if bare is not None:
        blocks.append(bare)
    return Parsed(text, blocks, title)


def _blank_front_matter(text: str) -> str:
    """Front matter is about the document, not of it: blank lines instead, so that line numbers stay."""
    found = _FRONT_MATTER.match(text)
    return text if found is None else "\n" * found.group().count("\n") + text[found.end() :]


def _block(text: str, starts: list[int], token: Token, headings: list[str]) -> Block:
    assert token.map is not None
    first, last = token.map
    start, end = starts[first], starts[min(last, len(starts) - 1)]
    body = text[start:end]
    start += len(body) - len(body.lstrip("\n"))
    return Block(start, start + len(text[start:end].rstrip()), _path(headings))


def _path(headings: list[str]) -> tuple[str, ...]:
    return tuple(name for name in headings if name)


def _plain(inline: Token) -> str:
    """A heading's words without their markup."""
    parts = inline.children or []
    return "".join(
        part.content if part.type in ("text", "code_inline") else " " for part in parts if part.content
    ).strip()
