"""GET /documents/{id}: a page with a document's text in the index, which citations link to."""

import asyncio
import re
from typing import Annotated, Any

from litestar import Controller, MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from index.storage.records import DocumentExcerpt, ExcerptRange
from index.types import is_managed
from server.errors import NotFound, RequestError
from server.page import viewer
from server.services import Services

_LINES = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_MAX_ID = 2**63 - 1  # SQLite's largest integer


class DocumentController(Controller):
    @get("/documents/{document_id:int}", operation_id="showDocument", media_type=MediaType.HTML)
    async def show(
        self,
        request: Request[Any, Any, Any],
        document_id: FromPath[int],
        services: NamedDependency[Services],
        chunk: Annotated[int | None, QueryParameter(ge=0, le=_MAX_ID)] = None,
        through: Annotated[int | None, QueryParameter(ge=0, le=_MAX_ID)] = None,
        lines: FromQuery[str | None] = None,
        at: Annotated[int | None, QueryParameter(ge=0, le=_MAX_ID)] = None,
    ) -> Response[bytes]:
        """Show a document around the chunks from `chunk` to `through`, or around `lines` such as `12` or `12-30`, which
        are highlighted; else from the chunk number `at` on, counted from 0."""
        chunks = None if chunk is None else (chunk, chunk if through is None else through)
        document = await _read(services, document_id, ExcerptRange(chunks, _lines(lines), at))
        if document is not None and document.has_range:
            return Response(viewer.document_page(document), media_type=MediaType.HTML, headers=viewer.headers())
        if "text/html" not in request.headers.get("accept", ""):
            kind = "document" if document is None else "such passage in document"
            raise NotFound(f"There is no {kind} {document_id}.")
        page = viewer.missing_page(document_id, document)
        return Response(page, status_code=404, media_type=MediaType.HTML, headers=viewer.headers())


async def _read(services: Services, document_id: int, range: ExcerptRange) -> DocumentExcerpt | None:
    if not 0 <= document_id <= _MAX_ID:
        return None
    document = await asyncio.to_thread(services.catalog.read_document, document_id, range)
    if document is None or is_managed(document.collection):  # only the file service knows the owner of an upload
        return await services.files.read_document(document_id, range)
    return document


def _lines(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    match = _LINES.fullmatch(text)
    if match is None:
        raise RequestError("Use one line or a range, such as 12 or 12-30.", "lines", "invalid_value")
    return int(match[1]), int(match[2] or match[1])
