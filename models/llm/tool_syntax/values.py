"""Values as models write them: JSON, and the two dialects that are nearly JSON.

Lenient where the meaning is plain (a raw line break or an unknown escape in a string), strict where it is a guess.
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
    is_python: bool = False  # tuples, and a comma after the last


JSON = Dialect(('"',))
LOOSE = Dialect(('"', "'"), {**_WORDS, "True": True, "False": False, "None": None})
PYTHON = LOOSE._replace(is_python=True)
GEMMA = LOOSE._replace(quotes=('<|"|>', '"'), has_bare_keys=True)


def read_value(reader: TextCursor, dialect: Dialect, depth: int = 0) -> Generator[None, None, object]:
    if depth > _MAX_DEPTH:
        raise Malformed
    yield from reader.skip_space()
    brackets = "{[(" if dialect.is_python else "{["
    opening = yield from reader.take(*dialect.quotes, *brackets)
    if opening == "{":
        return (yield from _read_object(reader, dialect, depth))
    if opening in ("[", "("):
        return (yield from _read_list(reader, dialect, depth, "]" if opening == "[" else ")"))
    if opening:
        return (yield from read_string(reader, opening))
    return _scalar((yield from reader.run(_PLAIN)), dialect)


def _read_object(reader: TextCursor, dialect: Dialect, depth: int) -> Generator[None, None, dict[str, object]]:
    found: dict[str, object] = {}
    while not (yield from _is_at_end(reader, dialect, "}", is_empty=not found)):
        quote = yield from reader.take(*dialect.quotes)
        if not quote and not dialect.has_bare_keys:
            raise Malformed
        key = (yield from read_string(reader, quote)) if quote else (yield from reader.run(_BARE_KEY))
        yield from reader.skip_space()
        yield from reader.expect(":")
        found[key] = yield from read_value(reader, dialect, depth + 1)
    return found


def _read_list(reader: TextCursor, dialect: Dialect, depth: int, end: str) -> Generator[None, None, list[object]]:
    found: list[object] = []
    while not (yield from _is_at_end(reader, dialect, end, is_empty=not found)):
        found.append((yield from read_value(reader, dialect, depth + 1)))
    return found


def _is_at_end(reader: TextCursor, dialect: Dialect, end: str, *, is_empty: bool) -> Generator[None, None, bool]:
    """Goes behind the end, or to where the next item begins."""
    yield from reader.skip_space()
    if is_empty:
        return bool((yield from reader.take(end)))
    if (yield from reader.expect(end, ",")) == end:
        return True
    yield from reader.skip_space()
    return dialect.is_python and bool((yield from reader.take(end)))


def read_string(reader: TextCursor, quote: str) -> Generator[None, None, str]:
    """From behind its opening quote. A quote of several characters knows no escapes."""
    start = search = reader.at
    while True:
        end = reader.text.find(quote, search)
        if end < 0:
            search = max(search, len(reader.text) - len(quote) + 1)
        elif len(quote) == 1 and _is_escaped(reader.text, start, end):
            search = end + 1
            continue
        else:
            reader.at = end + len(quote)
            text = reader.text[start:end]
            return _unescape(text) if len(quote) == 1 else text
        if not (yield from reader.more()):
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
    """A whole text as one value. Raises `Malformed`."""
    reader = TextCursor()
    reader.feed(text, final=True)
    reading = read_value(reader, dialect)
    try:
        next(reading)
    except StopIteration as done:
        if reader.text[reader.at :].strip():
            raise Malformed from None
        return done.value
    raise AssertionError("a final text is not waited for")


def encode(value: object) -> str:
    """As JSON text that UTF-8 can carry."""
    text = json.dumps(value, ensure_ascii=False)
    return text if is_encodable(text) else json.dumps(value)


def is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
