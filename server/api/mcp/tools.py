"""The MCP tools search, fetch and list_collections, independent of the protocol."""

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
from server.api.shared.passage import PassageFields
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
    """Return the result of the tool `name`, one of `BY_NAME`.

    Raises `RequestError`, `NotFound`, and what a search raises.
    """
    try:
        parsed = msgspec.convert(arguments, BY_NAME[name].arguments)
    except msgspec.ValidationError as error:
        raise RequestError(f"{error}.", None, "invalid_value") from None
    match parsed:
        case SearchArguments():
            return await _search(parsed, services, base_url)
        case FetchArguments():
            return await _fetch(parsed.id, services, base_url)
        case _:
            return await _list_collections(services)


async def _search(arguments: SearchArguments, services: Services, base_url: str) -> McpSearchResults:
    passages = await services.search.search(
        [Query(arguments.query)], arguments.limit, SearchScope(arguments.collections)
    )
    return McpSearchResults([_mcp_passage(passage, base_url) for passage in passages])


def _mcp_passage(passage: Passage, base_url: str) -> McpPassage:
    fields = PassageFields.of(passage, base_url)
    return McpPassage(
        id=f"{passage.document_id}-{passage.chunk_id}",
        title=" › ".join([passage.file, *passage.breadcrumb]),
        url=fields.url,
        text=fields.text,
        collection=fields.collection,
        path=fields.path,
        lines=fields.lines,
        place=fields.place,
        score=fields.score,
        relevance=fields.relevance,
    )


async def _fetch(id: str, services: Services, base_url: str) -> McpDocument:
    match = _ID.fullmatch(id)
    if match is None:
        raise RequestError(f"{id!r} is not a valid id; use one that search returned.", "id", "invalid_value")
    document_id = int(match[1])
    chunk_id, start = (None if part is None else int(part) for part in match.groups()[1:])
    range = ExcerptRange(chunks=None if chunk_id is None else (chunk_id, chunk_id), start=start)
    document = await asyncio.to_thread(services.catalog.read_document, document_id, range)
    if document is None:
        raise NotFound(f"There is no document {document_id}; it may have changed, so search again.")
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
            collection=document.collection,
            path=document.path,
            passages=f"{document.start + 1}–{end} of {document.num_chunks}" if document.chunks else "none",
            next=f"{document_id}@{end}" if end < document.num_chunks else None,
            note=document.note,
        ),
    )


def _text(document: DocumentExcerpt) -> str:
    """Return the chunks as text, with headings and locations where these change."""
    parts: list[str] = []
    previous: StoredChunk | None = None
    for chunk in document.chunks:
        if chunk.heading and (previous is None or chunk.heading != previous.heading):
            parts.append(f"# {' › '.join(chunk.heading)}")
        if chunk.place and (previous is None or chunk.place != previous.place):
            parts.append(f"[{chunk.place.label}]")
        is_new_table = previous is None or chunk.lead != previous.lead
        parts.append(with_lead(chunk.lead if is_new_table else "", chunk.text))
        previous = chunk
    return "\n\n".join(parts)


async def _list_collections(services: Services) -> McpCollections:
    statuses = await asyncio.to_thread(services.catalog.status)
    return McpCollections([McpCollection(each.name, each.documents, each.chunks) for each in statuses])
