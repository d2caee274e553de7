"""/v1/responses."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from litestar import Controller, MediaType, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from server.api.responses.archive import ResponseArchive
from server.api.responses.background import BackgroundResponses, response_job
from server.api.responses.reply import beginning, cannot_replay, replayed
from server.api.responses.request import with_headers
from server.api.responses.service import keep, num_input, prepare, queue, reply_to, streamed
from server.api.responses.wire import (
    InputTokens,
    ItemPage,
    ResponseDeleted,
    ResponseObject,
    ResponseRequest,
    StreamEvent,
)
from server.http.disconnect import unless_gone
from server.http.paging import Order, page
from server.http.sse import kept_stream
from server.jobs.runner import JobRunner
from server.services import Services

_POLL = {"openai-poll-after-ms": "500"}
_encode = msgspec.json.Encoder().encode

Limit = Annotated[int, QueryParameter(ge=1, le=100)]


class ResponseController(Controller):
    @post(
        ["/v1/responses", "/responses"],
        status_code=200,
        operation_id="createResponse",
        responses={200: ResponseSpec(ResponseObject, description="The response, whole or as a stream of its events")},
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[ResponseRequest],
        services: NamedDependency[Services],
        job_runner: NamedDependency[JobRunner],
        background_work: NamedDependency[BackgroundResponses],
    ) -> Response[Any]:
        base_url = str(request.base_url)
        prepared = await prepare(with_headers(data, request.headers), services)
        if data.background:
            response = await queue(prepared, services, base_url)
            await job_runner.add([response_job(response.id)])
            if data.stream:
                return _stream(_followed(response, -1, services, background_work))
            return Response(response, media_type=MediaType.JSON, headers=_POLL)
        reply = await unless_gone(request, reply_to(prepared, services, base_url))
        if data.stream:
            return kept_stream(_frames(streamed(reply, prepared, services)), reply.aclose)
        async with aclosing(reply):
            response = await unless_gone(request, reply.whole())
        await keep(prepared, response, services)
        return Response(response, media_type=MediaType.JSON)

    @post("/v1/responses/input_tokens", status_code=200, operation_id="countInputTokens")
    async def count(
        self, request: Request[Any, Any, Any], data: JSONBody[ResponseRequest], services: NamedDependency[Services]
    ) -> InputTokens:
        """What the model would read, with the passages that would be found."""
        return InputTokens(await unless_gone(request, num_input(data, services, request.headers)))

    @get(
        "/v1/responses/{response_id:str}",
        operation_id="retrieveResponse",
        responses={200: ResponseSpec(ResponseObject)},
    )
    async def retrieve(
        self,
        response_id: FromPath[str],
        services: NamedDependency[Services],
        background_work: NamedDependency[BackgroundResponses],
        stream: FromQuery[bool] = False,
        starting_after: Annotated[int, QueryParameter(ge=-1)] = -1,
    ) -> Response[Any]:
        """With `stream`, the events of one that is made in the background, those that were told left out."""
        response = (await ResponseArchive(services.responses).get(response_id)).response
        if not stream:
            return Response(response, media_type=MediaType.JSON, headers=_POLL)
        if not response.background:
            raise cannot_replay(response)
        return _stream(_followed(response, starting_after, services, background_work))

    @delete("/v1/responses/{response_id:str}", status_code=200, operation_id="deleteResponse")
    async def remove(
        self,
        response_id: FromPath[str],
        services: NamedDependency[Services],
        background_work: NamedDependency[BackgroundResponses],
        job_runner: NamedDependency[JobRunner],
    ) -> ResponseDeleted:
        """Nobody can go on from it any more, nor from those that went on from it."""
        await services.responses.remove(response_id)
        await job_runner.stop(response_id)
        await background_work.notify_ended()
        return ResponseDeleted(response_id)

    @post("/v1/responses/{response_id:str}/cancel", status_code=200, operation_id="cancelResponse")
    async def cancel(
        self,
        response_id: FromPath[str],
        services: NamedDependency[Services],
        background_work: NamedDependency[BackgroundResponses],
        job_runner: NamedDependency[JobRunner],
    ) -> ResponseObject:
        """Of one in the background that is not over."""
        response = await ResponseArchive(services.responses).cancel(response_id)
        await job_runner.stop(response_id)
        await background_work.notify_ended()
        return response

    @get("/v1/responses/{response_id:str}/input_items", operation_id="listInputItems")
    async def input_items(
        self,
        response_id: FromPath[str],
        services: NamedDependency[Services],
        limit: Limit = 20,
        order: FromQuery[Order] = "desc",
        after: FromQuery[str | None] = None,
    ) -> ItemPage:
        """Its own, without those of the responses before it."""
        items = (await ResponseArchive(services.responses).get(response_id)).items
        found = page(items, lambda item: item.id or "", limit, order, after)
        data = list(found.items)
        return ItemPage(data, data[0].id if data else None, data[-1].id if data else None, found.has_more)


async def _followed(
    response: ResponseObject, after: int, services: Services, background: BackgroundResponses
) -> AsyncGenerator[StreamEvent, None]:
    """What is certain of it at once, the rest when it is over."""
    start = beginning(response)
    for event in start[after + 1 :]:
        yield event
    await background.wait_until_over(response.id, services)
    ended = (await ResponseArchive(services.responses).get(response.id)).response
    for event in replayed(ended, max(after, len(start) - 1)):
        yield event


async def _frames(events: AsyncIterator[StreamEvent]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        kind = event.__struct_config__.tag
        yield b"event: " + str(kind).encode() + b"\ndata: " + _encode(event) + b"\n\n"


def _stream(events: AsyncGenerator[StreamEvent, None]) -> Stream:
    return kept_stream(_frames(events), events.aclose)
