"""The tools of the Model Context Protocol, without the protocol: search, fetch, list_collections."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from index.storage.records import DocumentExcerpt, ExcerptRange, StoredChunk
from index.types import Passage, Query, SearchScope, with_lead
from server.api.mcp.wire import (
    FetchArguments,
    McpCollection,
    McpCollections,
    McpDocument,
    McpDocumentMetadata,
    McpPassage,
    McpSearchResults,
    NoArguments,
    SearchArguments,
)
from server.api.shared.passage import wire_passage
from server.errors import NotFound, RequestError
from server.http.links import document_url
from server.services import Services

_ID = re.compile(
    r"([0-9]{1,18})(?:-([0-9]{1,18})|@([0-9]{1,18}))?"
)  # a document; a passage in it, or what is behind so many


class McpTool(NamedTuple):
    name: str
    title: str
    description: str
    arguments: type[msgspec.Struct]
    result: type[msgspec.Struct]


TOOLS = (
    McpTool(
        "search",
        "Search the documents",
        "Finds the passages of the user's own documents that fit a question best. Each has an id for fetch.",
        SearchArguments,
        McpSearchResults,
    ),
    McpTool(
        "fetch",
        "Read a document",
        "Reads the document that an id from search is of, whole or, of a long one, the part around the passage.",
        FetchArguments,
        McpDocument,
    ),
    McpTool(
        "list_collections",
        "List the collections",
        "Lists the folders of documents that can be searched, with how much each holds.",
        NoArguments,
        McpCollections,
    ),
)
BY_NAME = {tool.name: tool for tool in TOOLS}


async def call(name: str, arguments: Mapping[str, Any], services: Services, base_url: str) -> msgspec.Struct:
    """`name` is one of `BY_NAME`. Raises `RequestError`, `NotFound`, and what a search does."""
    try:
        asked = msgspec.convert(arguments, BY_NAME[name].arguments)
    except msgspec.ValidationError as error:
        raise RequestError(f"{error}.", None, "invalid_value") from None
    match asked:
        case SearchArguments():
            return await _search(asked, services, base_url)
        case FetchArguments():
            return await _fetch(asked.id, services, base_url)
        case _:
            return await _list(services)


async def _search(asked: SearchArguments, services: Services, base_url: str) -> McpSearchResults:
    passages = await services.search.search([Query(asked.query)], asked.limit, SearchScope(asked.collections))
    return McpSearchResults([_found(passage, base_url) for passage in passages])


def _found(passage: Passage, base_url: str) -> McpPassage:
    return wire_passage(
        McpPassage,
        passage,
        base_url,
        id=f"{passage.document_id}-{passage.chunk_id}",
        title=" › ".join([passage.file, *passage.breadcrumb]),
    )


async def _fetch(id: str, services: Services, base_url: str) -> McpDocument:
    parts = _ID.fullmatch(id)
    if parts is None:
        raise RequestError(f"{id!r} is no id; search returns ids.", "id", "invalid_value")
    document_id = int(parts[1])
    chunk_id, start = (None if part is None else int(part) for part in parts.groups()[1:])
    range = ExcerptRange(chunks=None if chunk_id is None else (chunk_id, chunk_id), start=start)
    document = await asyncio.to_thread(services.catalog.read_document, document_id, range)
    if document is None:
        raise NotFound(f"There is no document {document_id}; it may have been changed, so search again.")
    if not document.has_range:
        raise NotFound(f"There is no such passage in {document.collection}/{document.path} any more; search again.")
    if start is not None:  # an excerpt at the end of the document begins before that
        document = document._replace(chunks=document.chunks[start - document.start :], start=start)
    end = document.start + len(document.chunks)
    return McpDocument(
        id=id,
        title=f"{document.collection}/{document.path}",
        text=_text(document),
        url=document_url(base_url, document_id),
        metadata=McpDocumentMetadata(
            document.collection,
            document.path,
            f"{document.start + 1}–{end} of {document.num_chunks}" if document.chunks else "none",
            f"{document_id}@{end}" if end < document.num_chunks else None,
            document.note,
        ),
    )


def _text(document: DocumentExcerpt) -> str:
    """The passages, under their headings and places as these change."""
    parts: list[str] = []
    before: StoredChunk | None = None
    for chunk in document.chunks:
        if chunk.heading and (before is None or chunk.heading != before.heading):
            parts.append(f"# {' › '.join(chunk.heading)}")
        if chunk.place and (before is None or chunk.place != before.place):
            parts.append(f"[{chunk.place.label}]")
        is_new_table = before is None or chunk.lead != before.lead
        parts.append(with_lead(chunk.lead if is_new_table else "", chunk.text))
        before = chunk
    return "\n\n".join(parts)


async def _list(services: Services) -> McpCollections:
    statuses = await asyncio.to_thread(services.catalog.status)
    return McpCollections([McpCollection(each.name, each.documents, each.chunks) for each in statuses])
