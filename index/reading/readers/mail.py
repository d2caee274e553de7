"""Mail: EML, and MBOX message by message. Attachments are named, not read."""

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from index.reading.readers.canonical import Canonical, one_line
from index.reading.readers.html import text_of
from index.reading.readers.text import decode
from index.types import Location, Parsed

_HEADERS = ("From", "To", "Cc", "Date")
_FROM_LINE = re.compile(rb"^From [^\n]*\n", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def read(content: bytes, suffix: str) -> Parsed:
    canonical = Canonical()
    if suffix == ".mbox":
        for number, raw in enumerate(_split(content.replace(b"\r\n", b"\n")), 1):
            _add(canonical, _parse(raw), Location("message", number, number))
        return canonical.parsed(None)
    message = _parse(content)
    _add(canonical, message, None)
    return canonical.parsed(_header(message, "Subject"))


def _split(content: bytes) -> list[bytes]:
    """The messages of a mailbox: each begins after a line `From …` that follows an empty line or nothing."""
    starts = [
        found
        for found in _FROM_LINE.finditer(content)
        if found.start() == 0 or content[found.start() - 2 : found.start()] == b"\n\n"
    ]
    ends = [*(found.start() for found in starts[1:]), len(content)]
    return [_QUOTED_FROM.sub(rb"\1", content[found.end() : end]) for found, end in zip(starts, ends, strict=False)]


def _parse(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def _add(canonical: Canonical, message: EmailMessage, place: Location | None) -> None:
    canonical.section()
    canonical.heading(1, _header(message, "Subject"), place)
    known = [(name, _header(message, name)) for name in _HEADERS]
    canonical.text("\n".join(f"{name}: {value}" for name, value in known if value), place)
    for paragraph in _body(message).split("\n\n"):
        canonical.text(paragraph, place)
    names = [one_line(part.get_filename() or "") for part in message.walk() if part.is_attachment()]
    if named := [name for name in names if name]:
        canonical.text(f"Attachments: {', '.join(named)}", place)


def _header(message: EmailMessage, name: str) -> str:
    """As far as it can be told: what follows no standard is shown as it stands, or not at all."""
    try:
        return one_line(str(message[name] or ""))
    except (ValueError, LookupError, AttributeError, TypeError):  # the parser of headers trips over some spam
        return ""


def _body(message: EmailMessage) -> str:
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    try:
        text = content.decode(part.get_content_charset("utf-8"))
    except (LookupError, UnicodeError):
        text = decode(content)
    text = text.replace("\r\n", "\n")
    return text_of(text) if part.get_content_subtype() == "html" else text
