"""Receive the file of a multipart form piece by piece, without holding it in memory or in a temporary file."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, Protocol

from litestar import Request
from litestar.exceptions import HTTPException
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from server.errors import ClientDisconnected, RequestError

_FORM = "multipart/form-data"
_MAX_FIELD_BYTES = 64 << 10
_MAX_PARTS = 64
_MAX_OVERHEAD_BYTES = 1 << 20  # of a form, besides the file
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_NAME_CHARS = 255


class UploadSink(Protocol):
    """Receives the bytes of the file in a form."""

    def check_size(self, num_bytes: int) -> None:
        """Raise the error for a file that is too large; called before any byte of it is written."""
        ...

    async def write(self, piece: bytes | bytearray) -> None: ...


class Form(NamedTuple):
    """`filename` is None if the form has no file; `fields` are the other fields by name."""

    filename: str | None
    fields: Mapping[str, str]


async def receive_form(request: Request[Any, Any, Any], incoming: UploadSink) -> Form:
    """Write the part named `file` to `incoming`; return the other fields.

    Raises `RequestError` for a body that is no such form, `ClientDisconnected`, and the errors of `UploadSink`.
    """
    kind, options = request.content_type
    if kind.lower() != _FORM:
        raise HTTPException(f"The header Content-Type must be {_FORM!r}, not {kind or 'missing'}.", status_code=415)
    incoming.check_size((request.content_length or 0) - _MAX_OVERHEAD_BYTES)
    receiver = _Receiver(incoming)
    try:
        with PushMultipartParser(options.get("boundary", ""), max_segment_count=_MAX_PARTS, strict=True) as parser:
            async for chunk in _body(request):
                for event in parser.parse(chunk):
                    await receiver.handle(event)
    except (MultipartError, UnicodeDecodeError) as error:
        raise RequestError(f"The form cannot be read: {error}.", None, "invalid_form") from None
    return Form(receiver.filename, receiver.fields)


async def _body(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    stream = request.stream()
    async with contextlib.aclosing(stream):
        try:
            async for chunk in stream:
                if chunk:
                    yield chunk
        except HTTPException as error:
            if error.status_code < 500:
                raise
            raise ClientDisconnected from None  # Litestar reports it as an internal error


class _Receiver:
    """Handles the parser's events: writes the file, and collects the other fields."""

    def __init__(self, incoming: UploadSink) -> None:
        self._incoming = incoming
        self._part: MultipartSegment | None = None
        self._text = bytearray()
        self.filename: str | None = None
        self.fields: dict[str, str] = {}

    async def handle(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        match event:
            case MultipartSegment():
                self._begin_part(event)
            case bytes() | bytearray():
                await self._add_piece(event)
            case None:
                self._end_part()

    @property
    def _is_file(self) -> bool:
        return self._part is not None and self._part.name == "file"

    def _begin_part(self, part: MultipartSegment) -> None:
        self._part = part
        self._text.clear()
        if self._is_file:
            if self.filename is not None:
                raise RequestError("There is more than one file; send one at a time.", "file", "invalid_value")
            self.filename = safe_filename(part.filename or "")

    async def _add_piece(self, piece: bytes | bytearray) -> None:
        if self._is_file:
            await self._incoming.write(piece)
            return
        self._text += piece
        if len(self._text) > _MAX_FIELD_BYTES:
            name = self._part.name if self._part else None
            raise RequestError(
                f"This field is longer than {_MAX_FIELD_BYTES:,} bytes; shorten it.", name, "invalid_value"
            )

    def _end_part(self) -> None:
        if self._part is not None and not self._is_file:
            self.fields[self._part.name or ""] = self._text.decode()


def safe_filename(filename: str) -> str:
    """Return the last part of a file name that a client sent, without control characters."""
    name = _CONTROL.sub("", re.split(r"[/\\]", filename)[-1]).strip()
    return name[-_MAX_NAME_CHARS:] or "upload"
