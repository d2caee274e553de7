"""GET /documents/{id}: what the index holds of a document, for people who follow a citation."""

import asyncio
import html

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from index.lookup import StoredChunk, StoredDocument, read_document
from index.types import Passage, Place, with_lead
from server.exceptions import NotFound
from server.services import Services

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def passage_url(base_url: str, passage: Passage) -> str:
    """Where a browser shows a passage in its document."""
    return f"{base_url.rstrip('/')}/documents/{passage.document_id}#chunk-{passage.chunk_id}"


class DocumentController(Controller):
    @get("/documents/{document_id:int}", operation_id="showDocument")
    async def show(self, document_id: FromPath[int], services: NamedDependency[Services]) -> Response[str]:
        document = await asyncio.to_thread(read_document, services.settings.data_folder, document_id)
        if document is None:
            raise NotFound(f"document {document_id}")
        return Response(_page(document), media_type=MediaType.HTML, headers=_HEADERS)


def _page(document: StoredDocument) -> str:
    title = html.escape(f"{document.collection}/{document.path}")
    body = "\n".join(map(_section, document.chunks))
    if document.note:
        body = f"<p>Not read: {html.escape(document.note)}.</p>\n{body}"
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return f"{head}\n<h1>{title}</h1>\n{body}\n</html>\n"


def _section(chunk: StoredChunk) -> str:
    place = chunk.place or Place("line", chunk.line_from, chunk.line_to)
    where = html.escape(" › ".join((*chunk.heading, place.label)))
    text = html.escape(with_lead(chunk.lead, chunk.text))
    return f'<section id="chunk-{chunk.id}"><p><small>{where}</small></p><pre>{text}</pre></section>'
