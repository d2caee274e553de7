"""/v1/files: files that clients upload."""

import asyncio
import contextlib
import mimetypes
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream
from msgspec import UNSET

from server.access.keys import Role
from server.api.files.wire import FileDeleted, FileExpiry, FileObject, FilePage
from server.errors import RequestError
from server.http.form import Form, receive_form
from server.http.paging import Order, page, page_reply
from server.services import Services
from server.storage.file_records import StoredFile

_PIECE_BYTES = 256 << 10
_MAX_LIMIT = 10_000


@dataclass
class _UploadOperation(Operation):
    """Describes the form, which the handler reads itself."""

    def __post_init__(self) -> None:
        text = Schema(type=OpenAPIType.STRING)
        form = Schema(
            type=OpenAPIType.OBJECT,
            properties={
                "file": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY),
                "purpose": text,
                "expires_after[anchor]": text,
                "expires_after[seconds]": text,
            },
            required=["file", "purpose"],
        )
        self.request_body = RequestBody({"multipart/form-data": OpenAPIMediaType(form)}, required=True)


class FileController(Controller):
    path = "/v1/files"

    @post(
        "/",
        status_code=200,
        operation_id="uploadFile",
        opt={"role": Role.WRITE},
        operation_class=_UploadOperation,
        request_max_body_size=None,
    )
    async def upload(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> FileObject:
        """Upload a file as a form with `file` and `purpose`; with `expires_after[anchor]` and `expires_after[seconds]`
        it expires. When this is answered, the file survives a power failure."""
        async with services.files.receive() as incoming:
            form = await receive_form(request, incoming)
            if form.filename is None:
                raise RequestError(
                    "The form has no file; add it as the field `file`.", "file", "missing_required_parameter"
                )
            purpose = form.fields.get("purpose", "")
            if not purpose:
                raise RequestError(
                    "The form has no purpose; add the field `purpose`.", "purpose", "missing_required_parameter"
                )
            expiry = _expiry(form)
            expires_at = None if expiry is None else int(time.time()) + expiry.seconds
            return _reply(await services.files.add_file(incoming, form.filename, purpose, expires_at))

    @get("/", operation_id="listFiles")
    async def list_files(
        self,
        services: NamedDependency[Services],
        purpose: FromQuery[str | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=_MAX_LIMIT)] = _MAX_LIMIT,
        order: FromQuery[Order] = "desc",
        after: FromQuery[str | None] = None,
    ) -> FilePage:
        """List uploaded files. Those of watched folders are listed with their vector stores."""
        files = await services.files.list_files(purpose)
        files_page = page(files, lambda file: file.id, limit, order, after)
        data = [_reply(file) for file in files_page.items]
        return page_reply(FilePage, data, has_more=files_page.has_more)

    @get("/{file_id:str}", operation_id="retrieveFile")
    async def retrieve(self, file_id: FromPath[str], services: NamedDependency[Services]) -> FileObject:
        return _reply(await services.files.get_file(file_id))

    @delete("/{file_id:str}", status_code=200, operation_id="deleteFile", opt={"role": Role.WRITE})
    async def remove(self, file_id: FromPath[str], services: NamedDependency[Services]) -> FileDeleted:
        """Delete a file, also from all vector stores."""
        await services.files.remove_file(file_id)
        return FileDeleted(file_id)

    @get(
        "/{file_id:str}/content",
        operation_id="downloadFile",
        responses={200: ResponseSpec(bytes, media_type="application/octet-stream", description="The content")},
    )
    async def content(self, file_id: FromPath[str], services: NamedDependency[Services]) -> Response[Any]:
        """Return a file as it was uploaded, or a watched file as it is now."""
        file = await services.files.get_file(file_id)
        content = await services.files.open_file(file_id)
        return Stream(
            _pieces(content),
            media_type=mimetypes.guess_type(file.filename)[0] or "application/octet-stream",
            headers={
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "default-src 'none'; sandbox",
            },
            background=BackgroundTask(content.close),  # also when the stream is never started
        )


async def _pieces(content: BinaryIO) -> AsyncGenerator[bytes, None]:
    with contextlib.closing(content):
        while piece := await asyncio.to_thread(content.read, _PIECE_BYTES):
            yield piece


def _expiry(form: Form) -> FileExpiry | None:
    name = "expires_after"
    paths = {field: f"{name}[{field}]" for field in ("anchor", "seconds")}
    fields = {field: form.fields[path] for field, path in paths.items() if path in form.fields}
    if not fields:
        return None
    try:
        return msgspec.convert(fields, FileExpiry, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"{error}.", name, "invalid_value") from None


def _reply(file: StoredFile) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.size,
        created_at=file.created_at,
        filename=file.filename,
        purpose=file.purpose,
        expires_at=UNSET if file.expires_at is None else file.expires_at,
    )
