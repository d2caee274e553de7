"""JSON and JSON Lines: the file's own text; values under the path of their keys, as large as a few paragraphs."""

import json
import re
from collections.abc import Iterator

from index.reading.readers.text import decode, read_plain
from index.types import Block, Parsed

_WHOLE = 1200  # characters of an object or array that is told as one
_MAX_DEPTH = 32  # keys
_SPACE = re.compile(r"[ \t\n\r]*")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_decoder = json.JSONDecoder(strict=False)


def read(content: bytes, suffix: str) -> Parsed:
    text = decode(content)
    return read_lines(text) if suffix in (".jsonl", ".ndjson") else read_json(text)


def read_lines(text: str) -> Parsed:
    """A record a line, whatever it holds."""
    return Parsed(text, [Block(found.start(), found.end(), ()) for found in _LINE.finditer(text)], None)


def read_json(text: str) -> Parsed:
    """What is not JSON by the letter, such as JSON with comments, is plain text."""
    start = _skip(text, 0)
    try:
        _, end = _decoder.raw_decode(text, start)
        if _skip(text, end) < len(text):
            return read_plain(text)
        values = list(_values(text, start, start, ()))
    except (ValueError, IndexError, RecursionError):
        return read_plain(text)
    return Parsed(text, [Block(*value, section) for section, value in enumerate(values)], None)


def _values(text: str, begin: int, at: int, path: tuple[str, ...]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Spans, from `begin`, of the value at `at`: whole when it is small, else its members', each with its key."""
    _, end = _decoder.raw_decode(text, at)
    if end - at <= _WHOLE or text[at] not in "[{" or len(path) >= _MAX_DEPTH:
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
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
