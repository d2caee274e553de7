"""Mail: an EML file is one message, an MBOX file several. Attachments are named, not read."""

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from index.reading.readers.canonical import CanonicalText, one_line
from index.reading.readers.html import extract_text
from index.reading.readers.text import decode
from index.types import Location, ParsedDocument

_HEADERS = ("From", "To", "Cc", "Date")
_FROM_LINE = re.compile(rb"^From [^\n]*\n", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def read(content: bytes, suffix: str) -> ParsedDocument:
    canonical = CanonicalText()
    if suffix == ".mbox":
        for number, raw in enumerate(_split(content.replace(b"\r\n", b"\n")), 1):
            _add_message(canonical, _parse(raw), Location("message", number, number))
        return canonical.finish(None)
    message = _parse(content)
    _add_message(canonical, message, None)
    return canonical.finish(_header(message, "Subject"))


def _split(content: bytes) -> list[bytes]:
    """Return the messages of a mailbox. Each begins after a line `From …` that follows an empty line or nothing."""
    starts = [
        match
        for match in _FROM_LINE.finditer(content)
        if match.start() == 0 or content[match.start() - 2 : match.start()] == b"\n\n"
    ]
    ends = [*(match.start() for match in starts[1:]), len(content)]
    return [_QUOTED_FROM.sub(rb"\1", content[match.end() : end]) for match, end in zip(starts, ends, strict=False)]


def _parse(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def _add_message(canonical: CanonicalText, message: EmailMessage, place: Location | None) -> None:
    canonical.start_section()
    canonical.add_heading(1, _header(message, "Subject"), place)
    headers = [(name, _header(message, name)) for name in _HEADERS]
    canonical.add_text("\n".join(f"{name}: {value}" for name, value in headers if value), place)
    for paragraph in _body(message).split("\n\n"):
        canonical.add_text(paragraph, place)
    attachments = [one_line(part.get_filename() or "") for part in message.walk() if part.is_attachment()]
    if names := ", ".join(name for name in attachments if name):
        canonical.add_text(f"Attachments: {names}", place)


def _header(message: EmailMessage, name: str) -> str:
    """Return the text of a header, or "" for one that the parser cannot read."""
    try:
        return one_line(str(message[name] or ""))
    except (ValueError, LookupError, AttributeError, TypeError):  # the standard library fails on some malformed headers
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
    return extract_text(text) if part.get_content_subtype() == "html" else text
