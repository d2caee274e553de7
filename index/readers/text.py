"""Plain text: decoding, and paragraphs as blocks."""

import re

from index.errors import UnreadableDocument
from index.types import Block, Parsed

_PARAGRAPH = re.compile(r"\S(?:.*\S)?(?:\n.*\S.*)*")


def decode(content: bytes) -> str:
    """Text with \\n line ends. UTF-8 (with or without mark), UTF-16 with its mark, else Windows-1252."""
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = content.decode("utf-16")
        elif b"\0" in content:
            raise UnreadableDocument("this is binary, not text (it contains zero bytes)")
        else:
            text = _decode_unmarked(content)
        if "\0" in text:
            raise UnreadableDocument("this is binary, not text (it contains zero characters)")
    except UnicodeDecodeError as error:
        raise UnreadableDocument(
            f"its text encoding is not known (byte {error.object[error.start]:#04x} at {error.start}); save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode_unmarked(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def read_plain(text: str) -> Parsed:
    return Parsed(text, [Block(m.start(), m.end(), ()) for m in _PARAGRAPH.finditer(text)], None)
