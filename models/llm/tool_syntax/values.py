"""Values as models write them: JSON, and the dialects that are nearly JSON.

The parser is lenient where the meaning is plain (a raw line break or an unknown escape in a string), and strict where
it would have to guess.
"""

import json
import math
import re
from collections.abc import Generator, Mapping
from typing import NamedTuple

from models.llm.tool_syntax.text_cursor import Malformed, TextCursor

_MAX_DEPTH = 64
_WORDS: Mapping[str, object] = {"true": True, "false": False, "null": None}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_PLAIN = re.compile(r"[-+.\w]*", re.ASCII)
_BARE_KEY = re.compile(r'[^\s:{}\[\],"]*')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}


class Dialect(NamedTuple):
    quotes: tuple[str, ...]
    words: Mapping[str, object] = _WORDS
    has_bare_keys: bool = False
    is_python: bool = False  # has tuples, and a comma may follow the last item


JSON = Dialect(('"',))
LOOSE = Dialect(('"', "'"), {**_WORDS, "True": True, "False": False, "None": None})
PYTHON = LOOSE._replace(is_python=True)
GEMMA = LOOSE._replace(quotes=('<|"|>', '"'), has_bare_keys=True)


def read_value(cursor: TextCursor, dialect: Dialect, depth: int = 0) -> Generator[None, None, object]:
    if depth > _MAX_DEPTH:
        raise Malformed
    yield from cursor.skip_space()
    brackets = "{[(" if dialect.is_python else "{["
    opening = yield from cursor.take(*dialect.quotes, *brackets)
    if opening == "{":
        return (yield from _read_object(cursor, dialect, depth))
    if opening in ("[", "("):
        return (yield from _read_list(cursor, dialect, depth, "]" if opening == "[" else ")"))
    if opening:
        return (yield from read_string(cursor, opening))
    return _scalar((yield from cursor.run(_PLAIN)), dialect)


def _read_object(cursor: TextCursor, dialect: Dialect, depth: int) -> Generator[None, None, dict[str, object]]:
    value: dict[str, object] = {}
    while not (yield from _is_at_end(cursor, dialect, "}", is_empty=not value)):
        quote = yield from cursor.take(*dialect.quotes)
        if not quote and not dialect.has_bare_keys:
            raise Malformed
        key = (yield from read_string(cursor, quote)) if quote else (yield from cursor.run(_BARE_KEY))
        yield from cursor.skip_space()
        yield from cursor.expect(":")
        value[key] = yield from read_value(cursor, dialect, depth + 1)
    return value


def _read_list(cursor: TextCursor, dialect: Dialect, depth: int, end: str) -> Generator[None, None, list[object]]:
    items: list[object] = []
    while not (yield from _is_at_end(cursor, dialect, end, is_empty=not items)):
        items.append((yield from read_value(cursor, dialect, depth + 1)))
    return items


def _is_at_end(cursor: TextCursor, dialect: Dialect, end: str, *, is_empty: bool) -> Generator[None, None, bool]:
    """Return whether the end stands here and read it; otherwise read up to the next item."""
    yield from cursor.skip_space()
    if is_empty:
        return bool((yield from cursor.take(end)))
    if (yield from cursor.expect(end, ",")) == end:
        return True
    yield from cursor.skip_space()
    return dialect.is_python and bool((yield from cursor.take(end)))


def read_string(cursor: TextCursor, quote: str) -> Generator[None, None, str]:
    """Read a string from after its opening quote. With a quote of several characters there are no escapes."""
    start = search = cursor.at
    while True:
        end = cursor.text.find(quote, search)
        if end < 0:
            search = max(search, len(cursor.text) - len(quote) + 1)
        elif len(quote) == 1 and _is_escaped(cursor.text, start, end):
            search = end + 1
            continue
        else:
            cursor.at = end + len(quote)
            text = cursor.text[start:end]
            return _unescape(text) if len(quote) == 1 else text
        if not (yield from cursor.more()):
            raise Malformed


def _is_escaped(text: str, start: int, at: int) -> bool:
    before = text[start:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text

    def one(match: re.Match[str]) -> str:
        name = match[1]
        return chr(int(name[1:], 16)) if len(name) == 5 else _ESCAPED.get(name, match[0])

    return _ESCAPE.sub(one, text).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _scalar(text: str, dialect: Dialect) -> object:
    if text in dialect.words:
        return dialect.words[text]
    number = _NUMBER.fullmatch(text)
    if not number:
        raise Malformed
    try:
        value = float(text) if number[1] or number[2] else int(text)
    except ValueError:  # more digits than Python converts
        raise Malformed from None
    if isinstance(value, float) and not math.isfinite(value):
        raise Malformed
    return value


def decode(text: str, dialect: Dialect = JSON) -> object:
    """Return the value that a whole text is. Raises `Malformed`."""
    cursor = TextCursor()
    cursor.feed(text, final=True)
    reading = read_value(cursor, dialect)
    try:
        next(reading)
    except StopIteration as done:
        if cursor.text[cursor.at :].strip():
            raise Malformed from None
        return done.value
    raise AssertionError("no text is waited for after the final one")


def encode(value: object) -> str:
    """Return JSON text that UTF-8 can encode."""
    text = json.dumps(value, ensure_ascii=False)
    return text if is_encodable(text) else json.dumps(value)


def is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
