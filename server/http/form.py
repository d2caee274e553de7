"""A file of a multipart form, from the client straight to the disk: neither memory nor a temporary folder holds it."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, Protocol

from litestar import Request
from litestar.exceptions import HTTPException
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from server.errors import ClientDisconnected, RequestError

_FORM = "multipart/form-data"
_LARGEST_FIELD = 64 << 10  # bytes
_MOST_PARTS = 64
_MOST_AROUND = 1 << 20  # bytes of a form that may be other than the file
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_NAME = 255  # characters


class UploadSink(Protocol):
    """Receives the bytes of the file in a form."""

    def check_size(self, num_bytes: int) -> None:
        """Raise the error that fits for a file of at least so many bytes, before any of them is written."""
        ...

    async def write(self, piece: bytes | bytearray) -> None: ...


class Form(NamedTuple):
    """`filename`: of the file received, None when there was none. `fields`: the others, by name."""

    filename: str | None
    fields: Mapping[str, str]


async def receive_form(request: Request[Any, Any, Any], incoming: UploadSink) -> Form:
    """Write the part named `file` to `incoming`; return the other fields.

    Raises `RequestError` for a body that is no such form, `ClientDisconnected`, and the errors of `UploadSink.write`.
    """
    kind, options = request.content_type
    if kind.lower() != _FORM:
        raise HTTPException(f"The header Content-Type must be {_FORM!r}, not {kind or 'missing'}.", status_code=415)
    incoming.check_size((request.content_length or 0) - _MOST_AROUND)
    receiver = _Receiver(incoming)
    try:
        with PushMultipartParser(options.get("boundary", ""), max_segment_count=_MOST_PARTS, strict=True) as parser:
            async for chunk in _body(request):
                for event in parser.parse(chunk):
                    await receiver.take(event)
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
            raise ClientDisconnected from None  # as Litestar tells it


class _Receiver:
    """Takes the parser's events."""

    def __init__(self, incoming: UploadSink) -> None:
        self._incoming = incoming
        self._part: MultipartSegment | None = None
        self._text = bytearray()
        self.filename: str | None = None
        self.fields: dict[str, str] = {}

    async def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        match event:
            case MultipartSegment():
                self._begin(event)
            case bytes() | bytearray():
                await self._go_on(event)
            case None:
                self._end()

    @property
    def _is_file(self) -> bool:
        return self._part is not None and self._part.name == "file"

    def _begin(self, part: MultipartSegment) -> None:
        self._part = part
        self._text.clear()
        if self._is_file:
            if self.filename is not None:
                raise RequestError("There is more than one file; send one at a time.", "file", "invalid_value")
            self.filename = plain_name(part.filename or "")

    async def _go_on(self, piece: bytes | bytearray) -> None:
        if self._is_file:
            await self._incoming.write(piece)
            return
        self._text += piece
        if len(self._text) > _LARGEST_FIELD:
            name = self._part.name if self._part else None
            raise RequestError(f"This field is longer than {_LARGEST_FIELD:,} bytes.", name, "invalid_value")

    def _end(self) -> None:
        if self._part is not None and not self._is_file:
            self.fields[self._part.name or ""] = self._text.decode()


def plain_name(filename: str) -> str:
    """A file's name without the folders that a client may put before it, fit to be shown."""
    name = _CONTROL.sub("", re.split(r"[/\\]", filename)[-1]).strip()
    return name[-_LONGEST_NAME:] or "upload"
