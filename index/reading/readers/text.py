"""Plain text: decoding, and paragraphs as blocks."""

import codecs
import re

import charset_normalizer

from index.errors import UnreadableDocument
from index.types import Block, ParsedDocument

_PARAGRAPH = re.compile(r"\S(?:.*\S)?(?:\n.*\S.*)*")
# The longer marks first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# Guessed by how often their letters stand beside each other; Windows-1252 where that says nothing.
_LEGACY = (
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp932", "euc_jp", "gb18030",
    "big5", "cp949",
)  # fmt: skip
_MIN_FOREIGN = 16  # bytes beyond ASCII without which a guess is worth nothing
_SAMPLE_BYTES = 1 << 16  # by which an encoding is guessed
_DECLARED = re.compile(rb"(?:charset|encoding|coding)\s*[=:]\s*[\"']?\s*([A-Za-z0-9._-]{2,40})", re.IGNORECASE)
_DECLARATION_BYTES = 2048  # at the beginning, in which a file may declare its encoding


def read(content: bytes, suffix: str) -> ParsedDocument:
    parsed = read_plain(decode(content))
    return parsed._replace(blocks=[block._replace(is_prose=True) for block in parsed.blocks])


def decode(content: bytes, *, may_declare: bool = False) -> str:
    """Return the text with \\n line ends. Raises `UnreadableDocument`.

    The encoding is UTF-8, UTF-16 or UTF-32, with or without a byte order mark; else, with `may_declare`, the one that
    the file declares, as HTML, XML and Python files do; else a legacy encoding that is guessed.
    """
    encoding = _unicode_encoding(content) or (may_declare and _declared_encoding(content)) or _guess_legacy(content)
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        where = ""
        if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):
            where = f" (byte {error.object[error.start]:#04x} at {error.start})"
        raise UnreadableDocument(f"its text encoding is not known{where}; save it as UTF-8") from error
    if "\0" in text:
        raise UnreadableDocument("this is binary, not text (it contains zero characters)")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unicode_encoding(content: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    if b"\0" in content:
        return _wide_encoding(content)
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _wide_encoding(content: bytes) -> str:
    """Return the encoding by where the zero bytes of Western letters lie. Raises `UnreadableDocument`."""
    sample = content[:_SAMPLE_BYTES]
    if len(content) % 4 == 0:
        zeros = [sample[at::4].count(0) * 4 / len(sample) for at in range(4)]
        if min(zeros[2:]) > 0.95 and zeros[0] < 0.05:
            return "utf-32-le"
        if min(zeros[:2]) > 0.95 and zeros[3] < 0.05:
            return "utf-32-be"
    if len(content) % 2 == 0:
        even, odd = (sample[at::2].count(0) * 2 / len(sample) for at in range(2))
        if odd > 0.4 and even < 0.05:
            return "utf-16-le"
        if even > 0.4 and odd < 0.05:
            return "utf-16-be"
    raise UnreadableDocument("this is binary, not text (it contains zero bytes)")


def _declared_encoding(content: bytes) -> str | None:
    match = _DECLARED.search(content[:_DECLARATION_BYTES])
    if match is None:
        return None
    name = match[1].decode()
    try:
        is_text = codecs.lookup(name)._is_text_encoding  # the check of `bytes.decode`; "hex" and its like are none
        content.decode(name)
    except (LookupError, UnicodeError):
        return None
    return name if is_text else None


def _guess_legacy(content: bytes) -> str:
    sample = content[:_SAMPLE_BYTES]
    if sum(byte > 0x7F for byte in sample) < _MIN_FOREIGN:
        return "cp1252"
    best = charset_normalizer.from_bytes(content, cp_isolation=list(_LEGACY), preemptive_behaviour=False).best()
    return "cp1252" if best is None else best.encoding


def read_plain(text: str) -> ParsedDocument:
    """Return a block for each paragraph."""
    return ParsedDocument(text, [Block(m.start(), m.end(), ()) for m in _PARAGRAPH.finditer(text)], None)
