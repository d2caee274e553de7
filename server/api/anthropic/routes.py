"""The routes of Anthropic's API: POST /v1/messages and /v1/messages/count_tokens."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from litestar import Controller, MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody
from litestar.response import Stream

from server.access.keys import Role
from server.api.anthropic.reply import AnthropicReply, error_body
from server.api.anthropic.request import chat_messages, generation_request, parse_tool_config, template_options
from server.api.anthropic.wire import (
    AnthropicCountRequest,
    AnthropicError,
    AnthropicEvent,
    AnthropicMessageReply,
    AnthropicRequest,
    AnthropicTokenCount,
    Ping,
)
from server.api.shared.respond import respond
from server.generation.generate import generate
from server.generation.target import resolve_target
from server.http.disconnect import cancel_on_disconnect
from server.http.problems import HANDLERS, headers_of, problem_of
from server.http.sse import keep_alive_stream
from server.services import Services
from server.settings.settings import GROUNDED

_FAILED = ResponseSpec(AnthropicError, description="The error")
_encode = msgspec.json.Encoder().encode


def _respond(_: Request[Any, Any, Any], error: Exception) -> Response[AnthropicError]:
    problem = problem_of(error)
    headers = headers_of(error, problem)
    return Response(error_body(error), status_code=problem.status, media_type=MediaType.JSON, headers=headers)


class AnthropicController(Controller):
    exception_handlers = dict.fromkeys(HANDLERS, _respond)

    @post(
        "/v1/messages",
        status_code=200,
        operation_id="createMessage",
        opt={"role": Role.READ},
        responses={
            200: ResponseSpec(AnthropicMessageReply, description="The reply, whole or as a stream of events"),
            400: _FAILED,
        },
    )
    async def create(
        self, request: Request[Any, Any, Any], data: JSONBody[AnthropicRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        answers = await cancel_on_disconnect(request, generate(generation_request(data, request.headers), services))
        reply = AnthropicReply(data.model or GROUNDED, answers, str(request.base_url))
        return await respond(request, reply, is_streamed=bool(data.stream), stream=_stream)

    @post(
        "/v1/messages/count_tokens",
        status_code=200,
        operation_id="countTokens",
        opt={"role": Role.READ},
        responses={400: _FAILED},
    )
    async def count(
        self, data: JSONBody[AnthropicCountRequest], services: NamedDependency[Services]
    ) -> AnthropicTokenCount:
        """Count the tokens of a prompt, without passages of documents. No model is loaded for it."""
        target = resolve_target(data.model, services)
        chat_model = services.pool[target.model].chat_model
        tool_config = parse_tool_config(data)
        tools = tool_config.tools if tool_config else ()
        prompt = chat_model.prompt(chat_messages(data), tools, template_options(data))
        return AnthropicTokenCount(prompt.num_tokens)


def _stream(events: AsyncIterator[AnthropicEvent], on_end: Callable[[], Awaitable[None]]) -> Stream:
    return keep_alive_stream(_frames(events), on_end, keep_alive=_frame(Ping()))


async def _frames(events: AsyncIterator[AnthropicEvent]) -> AsyncGenerator[bytes, None]:
    """Yield the events as frames. An error becomes the last of them."""
    try:
        async for event in events:
            yield _frame(event)
    except Exception as error:  # the client reads it as the last event
        yield _frame(error_body(error))


def _frame(event: AnthropicEvent) -> bytes:
    return f"event: {event.type}\n".encode() + b"data: " + _encode(event) + b"\n\n"
