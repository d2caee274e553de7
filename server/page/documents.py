"""GET /documents/{id}: what the index holds of a document, for people who follow a citation."""

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
_LARGEST = 2**63 - 1  # that SQLite can look for


class DocumentController(Controller):
    @get("/documents/{document_id:int}", operation_id="showDocument", media_type=MediaType.HTML)
    async def show(
        self,
        request: Request[Any, Any, Any],
        document_id: FromPath[int],
        services: NamedDependency[Services],
        chunk: Annotated[int | None, QueryParameter(ge=0, le=_LARGEST)] = None,
        through: Annotated[int | None, QueryParameter(ge=0, le=_LARGEST)] = None,
        lines: FromQuery[str | None] = None,
        at: Annotated[int | None, QueryParameter(ge=0, le=_LARGEST)] = None,
    ) -> Response[bytes]:
        """`chunk`: highlighted, with all behind it up to `through`; else `lines`: `12` or `12-30`; else from the chunk
        `at` on, counted from 0."""
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
    if not 0 <= document_id <= _LARGEST:
        return None
    document = await asyncio.to_thread(services.catalog.read_document, document_id, range)
    if document is None or is_managed(document.collection):  # only the file service knows whose an upload is
        return await services.files.read_document(document_id, range)
    return document


def _lines(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    found = _LINES.fullmatch(text)
    if found is None:
        raise RequestError("It is a line, or the first and last of them, such as 12-30.", "lines", "invalid_value")
    return int(found[1]), int(found[2] or found[1])
