"""JSON and JSON Lines: the text is the file's own; each block is a value under the path of its keys."""

import json
import re
from collections.abc import Iterator

from index.reading.readers.text import decode, read_plain
from index.types import Block, ParsedDocument

_MAX_WHOLE = 1200  # characters of an object or array that is one block
_MAX_DEPTH = 32  # keys
_SPACE = re.compile(r"[ \t\n\r]*")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_decoder = json.JSONDecoder(strict=False)


def read(content: bytes, suffix: str) -> ParsedDocument:
    text = decode(content)
    return read_lines(text) if suffix in (".jsonl", ".ndjson") else read_json(text)


def read_lines(text: str) -> ParsedDocument:
    """Return a block for each line, whether it is JSON or not."""
    return ParsedDocument(text, [Block(match.start(), match.end(), ()) for match in _LINE.finditer(text)], None)


def read_json(text: str) -> ParsedDocument:
    """Read JSON; a text that is not strictly JSON, such as JSON with comments, is plain text."""
    start = _skip(text, 0)
    try:
        _, end = _decoder.raw_decode(text, start)
        if _skip(text, end) < len(text):
            return read_plain(text)
        values = list(_values(text, start, start, ()))
    except (ValueError, IndexError, RecursionError):
        return read_plain(text)
    blocks = [Block(start, end, heading=path, section=section) for section, (start, end, path) in enumerate(values)]
    return ParsedDocument(text, blocks, None)


def _values(text: str, begin: int, at: int, path: tuple[str, ...]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the spans and key paths of the value at `at`: itself when it is small, else its members.

    A span begins at `begin`, before the value's key if it has one.
    """
    _, end = _decoder.raw_decode(text, at)
    if end - at <= _MAX_WHOLE or text[at] not in "[{" or len(path) >= _MAX_DEPTH:
        yield begin, end, path
        return
    is_object = text[at] == "{"
    at = _skip(text, at + 1)
    while text[at] not in "]}":
        begin, deeper = at, path
        if is_object:
            key, at = _decoder.raw_decode(text, at)
            deeper = (*path, str(key).encode(errors="replace").decode())
            at = _skip(text, _skip(text, at) + 1)  # past the colon
        yield from _values(text, begin, at, deeper)
        _, at = _decoder.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
