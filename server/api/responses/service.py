"""A request for a response to its answer: the conversation it goes on with, the stores it searches, what must give way
when it is too long, and keeping it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from models.errors import ContextLengthExceeded
from models.llm.chat.messages import ChatMessage
from models.llm.params import Priority
from server.api.responses.archive import PendingResponse, ResponseArchive, StoredResponse
from server.api.responses.reply import ResponseReply, begun
from server.api.responses.request import FileSearch, file_search_of, generation_request, items_of, references
from server.api.responses.wire import Item, ResponseObject, ResponseRequest, StreamEvent
from server.errors import RequestError, ResponseNotFound
from server.files.holdings import Hit
from server.generation.generate import count_prompt_tokens, generate
from server.generation.request import GenerationRequest
from server.generation.stream import GenerationStream
from server.generation.target import target_of
from server.http.problems import problem_of
from server.services import Services


class Prepared(NamedTuple):
    """A request that can be answered, with its own input. `search` None: no vector stores are named."""

    data: ResponseRequest
    items: list[Item]
    ask: GenerationRequest
    search: FileSearch | None


async def prepare(
    data: ResponseRequest, services: Services, headers: Mapping[str, str] = MappingProxyType({})
) -> Prepared:
    """Raises `RequestError`, `UnknownModel`, `CollectionNotFound`, `FilesError`."""
    items = await _dereferenced(items_of(data), services)
    history = await _history(data.previous_response_id, services)
    ask, search = generation_request(data, items, history, headers), file_search_of(data)
    target_of(ask.model, services, ask.rag.collections)
    if search is not None:
        scope = await services.library.scope(search.store_ids, search.filter)
        ask = msgspec.structs.replace(ask, scope=scope)
    return Prepared(data, items, ask, search)


async def _history(id: str | None, services: Services) -> list[Item]:
    if id is None:
        return []
    try:
        return await ResponseArchive(services.responses).history(id)
    except ResponseNotFound as error:
        message = f"Previous response with id '{error.id}' not found."
        raise RequestError(message, "previous_response_id", "previous_response_not_found") from None


async def _dereferenced(items: Sequence[Item], services: Services) -> list[Item]:
    wanted = references(items)
    known = await ResponseArchive(services.responses).output_items(wanted) if wanted else {}
    for at, item in enumerate(items):
        if item.type == "item_reference" and item.id not in known:
            raise RequestError(f"Item with id '{item.id}' not found.", f"input[{at}].id", "invalid_value")
    return [known[item.id or ""] if item.type == "item_reference" else item for item in items]


async def reply_to(
    prepared: Prepared,
    services: Services,
    base_url: str,
    response: ResponseObject | None = None,
    priority: Priority = Priority.INTERACTIVE,
) -> ResponseReply:
    """The reply, begun; the caller closes it. Raises whatever prevents an answer."""
    ask = msgspec.structs.replace(prepared.ask, priority=priority)
    answers = await _answers(ask, services, is_truncated=prepared.data.truncation == "auto")
    try:
        hits = await _hits(prepared.search, answers, services)
    except BaseException:
        await answers.aclose()
        raise
    return ResponseReply(prepared.data, response or begun(prepared.data), answers, hits, base_url)


async def _hits(search: FileSearch | None, answers: GenerationStream, services: Services) -> list[Hit]:
    if search is None or answers.grounding is None or answers.grounding.report.found_nothing:
        return []
    report = answers.grounding.report
    passages = [source.passage for source in (*report.sources, *report.earlier)]
    return await services.library.hits(search.store_ids, passages)


async def _answers(ask: GenerationRequest, services: Services, *, is_truncated: bool) -> GenerationStream:
    while True:
        try:
            return await generate(ask, services)
        except ContextLengthExceeded as error:
            shorter = _without_oldest(ask.messages, error.n_prompt - error.n_ctx) if is_truncated else None
            if shorter is None:
                raise
            ask = msgspec.structs.replace(ask, messages=shorter)


def _without_oldest(messages: Sequence[ChatMessage], num_over: int) -> list[ChatMessage] | None:
    """Without whole turns of the beginning that come to so many tokens, roughly, at least one of them; None when only
    the last turn is left. System messages stay."""
    turns = [at for at, message in enumerate(messages) if message.role == "user"]
    if len(turns) < 2:
        return None
    size = 0
    for end in turns[1:]:
        gone = [m for m in messages[:end] if m.role != "system"]
        size = sum(len(m.text) for m in gone) // 3
        if size > num_over:
            break
    return [m for at, m in enumerate(messages) if at >= end or m.role == "system"]


async def num_input(data: ResponseRequest, services: Services, headers: Mapping[str, str]) -> int:
    """Tokens that the model would read."""
    return await count_prompt_tokens((await prepare(data, services, headers)).ask, services)


async def keep(prepared: Prepared, response: ResponseObject, services: Services) -> None:
    """Unless the client wants it not to be."""
    if response.store:
        await ResponseArchive(services.responses).add(StoredResponse(response, prepared.items))


async def queue(prepared: Prepared, services: Services, base_url: str) -> ResponseObject:
    """Store a response that is to be made in the background, and return it."""
    response = begun(prepared.data, is_queued=True)
    pending = PendingResponse(prepared.data, base_url, services.principal)
    await ResponseArchive(services.responses).add(StoredResponse(response, prepared.items, pending))
    return response


async def streamed(reply: ResponseReply, prepared: Prepared, services: Services) -> AsyncGenerator[StreamEvent, None]:
    """The response is kept before its client is told that it is complete. What goes wrong is told as events."""
    try:
        async for event in reply.events():
            yield event
        await keep(prepared, reply.response, services)
    except Exception as error:  # the last place where the client can be told
        for event in reply.failing(problem_of(error)):
            yield event
    else:
        yield reply.ending()


async def made(stored: StoredResponse, services: Services) -> ResponseObject:
    """One that was queued. Raises whatever prevents it."""
    assert stored.pending is not None, "it is over"
    pending = stored.pending
    data = msgspec.structs.replace(pending.request, input=stored.items)
    seen = services.seen_by(pending.principal)
    prepared = await prepare(data, seen)
    async with aclosing(await reply_to(prepared, seen, pending.base_url, stored.response, Priority.BATCH)) as reply:
        return await reply.whole()
