"""The routes of /v1/responses."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import msgspec
from litestar import Controller, MediaType, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from server.access.keys import Role
from server.api.responses.archive import ResponseArchive
from server.api.responses.background import BackgroundResponses, response_job
from server.api.responses.events import ResponseStreamEvent
from server.api.responses.replay import check_replayable, initial_events, replay_events
from server.api.responses.request import with_header_options
from server.api.responses.service import count_input_tokens, open_reply, prepare_request, queue_response
from server.api.responses.wire import (
    InputItemPage,
    InputTokenCount,
    ResponseDeleted,
    ResponseObject,
    ResponseRequest,
)
from server.api.shared.respond import respond
from server.http.disconnect import cancel_on_disconnect
from server.http.paging import Order, page, page_reply
from server.http.sse import keep_alive_stream
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
        opt={"role": Role.READ},
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
        prepared = await prepare_request(with_header_options(data, request.headers), services)
        if data.background:
            response = await queue_response(prepared, services, base_url)
            await job_runner.add([response_job(response.id)])
            if data.stream:
                events = _follow(response, -1, services, background_work)
                return _stream(events, events.aclose)
            return Response(response, media_type=MediaType.JSON, headers=_POLL)
        reply = await cancel_on_disconnect(request, open_reply(prepared, services, base_url))
        return await respond(request, reply, is_streamed=bool(data.stream), stream=_stream)

    @post("/v1/responses/input_tokens", status_code=200, operation_id="countInputTokens", opt={"role": Role.READ})
    async def count(
        self, request: Request[Any, Any, Any], data: JSONBody[ResponseRequest], services: NamedDependency[Services]
    ) -> InputTokenCount:
        """Count the tokens that the model would read, those of the passages included."""
        return InputTokenCount(await cancel_on_disconnect(request, count_input_tokens(data, services, request.headers)))

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
        """Return a stored response, or with `stream` the events of a background response behind number
        `starting_after`."""
        response = (await ResponseArchive(services.responses).get(response_id)).response
        if not stream:
            return Response(response, media_type=MediaType.JSON, headers=_POLL)
        check_replayable(response)
        events = _follow(response, starting_after, services, background_work)
        return _stream(events, events.aclose)

    @delete(
        "/v1/responses/{response_id:str}",
        status_code=200,
        operation_id="deleteResponse",
        opt={"role": Role.READ, "is_change": True},
    )
    async def remove(
        self,
        response_id: FromPath[str],
        services: NamedDependency[Services],
        background_work: NamedDependency[BackgroundResponses],
        job_runner: NamedDependency[JobRunner],
    ) -> ResponseDeleted:
        """Delete a response. No conversation can continue from it, or from a response that continued from it."""
        await services.responses.remove(response_id)
        await job_runner.stop(response_id)
        await background_work.notify_ended()
        return ResponseDeleted(response_id)

    @post(
        "/v1/responses/{response_id:str}/cancel",
        status_code=200,
        operation_id="cancelResponse",
        opt={"role": Role.READ, "is_change": True},
    )
    async def cancel(
        self,
        response_id: FromPath[str],
        services: NamedDependency[Services],
        background_work: NamedDependency[BackgroundResponses],
        job_runner: NamedDependency[JobRunner],
    ) -> ResponseObject:
        """Cancel a background response that is queued or in progress."""
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
    ) -> InputItemPage:
        """List the input of a response, without that of the responses before it."""
        items = (await ResponseArchive(services.responses).get(response_id)).items
        current = page(items, lambda item: item.id or "", limit, order, after)
        return page_reply(InputItemPage, list(current.items), has_more=current.has_more)


async def _follow(
    response: ResponseObject, after: int, services: Services, background_work: BackgroundResponses
) -> AsyncGenerator[ResponseStreamEvent, None]:
    """Yield the first events at once, and the others when the response is over."""
    first_events = initial_events(response)
    for event in first_events[after + 1 :]:
        yield event
    await background_work.wait_until_over(response.id, services)
    final = (await ResponseArchive(services.responses).get(response.id)).response
    for event in replay_events(final, max(after, len(first_events) - 1)):
        yield event


def _stream(events: AsyncIterator[ResponseStreamEvent], on_end: Callable[[], Awaitable[None]]) -> Stream:
    return keep_alive_stream(_frames(events), on_end)


async def _frames(events: AsyncIterator[ResponseStreamEvent]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        kind = event.__struct_config__.tag
        yield b"event: " + str(kind).encode() + b"\ndata: " + _encode(event) + b"\n\n"
