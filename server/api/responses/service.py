"""Carry out a /v1/responses request: continue its conversation, search its stores, shorten it, store its response."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from models.errors import ContextLengthExceeded
from models.llm.chat.messages import ChatMessage
from models.llm.params import Priority
from server.api.responses.archive import PendingResponse, ResponseArchive, StoredResponse
from server.api.responses.events import ResponseStreamEvent
from server.api.responses.items import InputItem
from server.api.responses.messages import parse_input_items, referenced_ids
from server.api.responses.reply import ResponseReply, new_response
from server.api.responses.request import generation_request
from server.api.responses.tools import FileSearch, parse_file_search
from server.api.responses.wire import ResponseObject, ResponseRequest
from server.errors import RequestError, ResponseNotFound
from server.files.vector_stores import FileHit
from server.generation.generate import count_prompt_tokens, generate
from server.generation.request import GenerationRequest
from server.generation.stream import GenerationStream
from server.generation.target import resolve_target
from server.http.problems import problem_of
from server.services import Services

_CHARS_PER_TOKEN = 3  # roughly


class PreparedRequest(NamedTuple):
    """A request that was checked. `items` is its own input; `search` is None if it names no vector stores."""

    data: ResponseRequest
    items: list[InputItem]
    generation: GenerationRequest
    search: FileSearch | None


class StoredReply:
    """A reply whose response is stored before its client learns that it is complete."""

    def __init__(self, reply: ResponseReply, request: PreparedRequest, services: Services) -> None:
        self._reply = reply
        self._request = request
        self._services = services

    async def events(self) -> AsyncIterator[ResponseStreamEvent]:
        """Yield the response's events. An error becomes the last of them."""
        try:
            async for event in self._reply.events():
                yield event
            await self._store()
        except Exception as error:  # the client reads it as the last events
            for event in self._reply.failure_events(problem_of(error)):
                yield event
        else:
            yield self._reply.final_event()

    async def whole(self) -> ResponseObject:
        response = await self._reply.whole()
        await self._store()
        return response

    async def aclose(self) -> None:
        await self._reply.aclose()

    async def _store(self) -> None:
        if self._reply.response.store:
            await ResponseArchive(self._services.responses).add(
                StoredResponse(self._reply.response, self._request.items)
            )


async def prepare_request(
    data: ResponseRequest, services: Services, headers: Mapping[str, str] = MappingProxyType({})
) -> PreparedRequest:
    """Return the checked request, with its references resolved and its stores' search scope.

    Raises `RequestError`, `UnknownModel`, `CollectionNotFound`, `FilesError`.
    """
    items = await _resolve_references(parse_input_items(data), services)
    history = await _history(data.previous_response_id, services)
    generation, search = generation_request(data, items, history, headers), parse_file_search(data)
    resolve_target(generation.model, services, generation.rag.collections)  # raises for a model that does not exist
    if search is not None:
        scope = await services.vector_stores.search_scope(search.store_ids, search.filter)
        generation = msgspec.structs.replace(generation, scope=scope)
    return PreparedRequest(data, items, generation, search)


async def _history(id: str | None, services: Services) -> list[InputItem]:
    if id is None:
        return []
    try:
        return await ResponseArchive(services.responses).history(id)
    except ResponseNotFound as error:
        message = f"Previous response with id '{error.id}' not found."
        raise RequestError(message, "previous_response_id", "previous_response_not_found") from None


async def _resolve_references(items: Sequence[InputItem], services: Services) -> list[InputItem]:
    ids = referenced_ids(items)
    stored = await ResponseArchive(services.responses).output_items(ids) if ids else {}
    for at, item in enumerate(items):
        if item.type == "item_reference" and item.id not in stored:
            raise RequestError(f"Item with id '{item.id}' not found.", f"input[{at}].id", "invalid_value")
    return [stored[item.id or ""] if item.type == "item_reference" else item for item in items]


async def open_reply(
    request: PreparedRequest, services: Services, base_url: str, priority: Priority = Priority.INTERACTIVE
) -> StoredReply:
    """Return the reply, whose generation has started; the caller closes it. Raises what prevents the generation."""
    reply = await _open_reply(request, services, base_url, new_response(request.data), priority)
    return StoredReply(reply, request, services)


async def _open_reply(
    request: PreparedRequest, services: Services, base_url: str, response: ResponseObject, priority: Priority
) -> ResponseReply:
    prioritized = msgspec.structs.replace(request.generation, priority=priority)
    generation = await _generate(prioritized, services, is_truncated=request.data.truncation == "auto")
    try:
        hits = await _file_hits(request.search, generation, services)
    except BaseException:
        await generation.aclose()
        raise
    return ResponseReply(request.data, response, generation, hits, base_url)


async def _file_hits(search: FileSearch | None, generation: GenerationStream, services: Services) -> list[FileHit]:
    if search is None or generation.grounding is None or generation.grounding.report.found_nothing:
        return []
    report = generation.grounding.report
    passages = [source.passage for source in (*report.sources, *report.earlier)]
    return await services.vector_stores.find_hits(search.store_ids, passages)


async def _generate(request: GenerationRequest, services: Services, *, is_truncated: bool) -> GenerationStream:
    """Start the generation, if `is_truncated` without as many of the first turns as the model has no room for."""
    while True:
        try:
            return await generate(request, services)
        except ContextLengthExceeded as error:
            shorter = _drop_oldest_turns(request.messages, error.num_prompt - error.n_ctx) if is_truncated else None
            if shorter is None:
                raise
            request = msgspec.structs.replace(request, messages=shorter)


def _drop_oldest_turns(messages: Sequence[ChatMessage], num_tokens: int) -> list[ChatMessage] | None:
    """Return the messages without the first turns, at least one of them and together about `num_tokens` long.

    System messages stay. None when only the last turn is left.
    """
    turn_starts = [at for at, message in enumerate(messages) if message.role == "user"]
    if len(turn_starts) < 2:
        return None
    end = 0
    for end in turn_starts[1:]:
        dropped = [message for message in messages[:end] if message.role != "system"]
        if sum(len(message.text) for message in dropped) // _CHARS_PER_TOKEN > num_tokens:
            break
    return [message for at, message in enumerate(messages) if at >= end or message.role == "system"]


async def count_input_tokens(data: ResponseRequest, services: Services, headers: Mapping[str, str]) -> int:
    """Return the number of tokens that the model would read."""
    request = await prepare_request(data, services, headers)
    return await count_prompt_tokens(request.generation, services)


async def queue_response(request: PreparedRequest, services: Services, base_url: str) -> ResponseObject:
    """Store the request for the background jobs, and return its response, which is queued."""
    response = new_response(request.data, is_queued=True)
    pending = PendingResponse(request.data, base_url, services.principal)
    await ResponseArchive(services.responses).add(StoredResponse(response, request.items, pending))
    return response


async def complete_response(stored: StoredResponse, services: Services) -> ResponseObject:
    """Return the queued response with its output; the caller stores it. Raises what prevents the generation."""
    assert stored.pending is not None, "the response is over"
    pending = stored.pending
    data = msgspec.structs.replace(pending.request, input=stored.items)
    own_services = services.seen_by(pending.principal)
    request = await prepare_request(data, own_services)
    reply = await _open_reply(request, own_services, pending.base_url, stored.response, Priority.BATCH)
    async with aclosing(reply):
        return await reply.whole()
