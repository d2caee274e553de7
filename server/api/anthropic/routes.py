"""Anthropic's API: POST /v1/messages and /v1/messages/count_tokens."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from litestar import Controller, MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody
from litestar.response import Stream

from server.api.anthropic.reply import MessageStream, error_reply
from server.api.anthropic.request import ask_of, messages_of, options_for_template, toolbox_of
from server.api.anthropic.wire import (
    CountRequest,
    ErrorReply,
    MessageEvent,
    MessageReply,
    MessageRequest,
    Ping,
    TokenCount,
)
from server.api.shared.respond import respond
from server.generation.generate import generate
from server.generation.target import target_of
from server.http.disconnect import unless_gone
from server.http.problems import HANDLERS, headers_of, problem_of
from server.http.sse import kept_stream
from server.services import Services
from server.settings.settings import GROUNDED

_FAILED = ResponseSpec(ErrorReply, description="Why it could not be done")
_encode = msgspec.json.Encoder().encode


def _respond(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorReply]:
    problem = problem_of(error)
    headers = headers_of(error, problem)
    return Response(error_reply(error), status_code=problem.status, media_type=MediaType.JSON, headers=headers)


class AnthropicController(Controller):
    exception_handlers = dict.fromkeys(HANDLERS, _respond)

    @post(
        "/v1/messages",
        status_code=200,
        operation_id="createMessage",
        responses={200: ResponseSpec(MessageReply, description="The answer, whole or as events"), 400: _FAILED},
    )
    async def create(
        self, request: Request[Any, Any, Any], data: JSONBody[MessageRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        answers = await unless_gone(request, generate(ask_of(data, request.headers), services))
        reply = MessageStream(data.model or GROUNDED, answers, str(request.base_url))
        return await respond(request, reply, is_streamed=bool(data.stream), stream=_stream)

    @post("/v1/messages/count_tokens", status_code=200, operation_id="countTokens", responses={400: _FAILED})
    async def count(self, data: JSONBody[CountRequest], services: NamedDependency[Services]) -> TokenCount:
        """Without passages of the documents, which are found only when the question is asked. No model is loaded."""
        target = target_of(data.model, services)
        language_model = services.pool[target.model].language_model
        tool_config = toolbox_of(data)
        tools = tool_config.tools if tool_config else ()
        prompt = language_model.prompt(messages_of(data), tools, options_for_template(data))
        return TokenCount(len(prompt.tokens))


def _stream(events: AsyncIterator[MessageEvent], on_end: Callable[[], Awaitable[None]]) -> Stream:
    return kept_stream(_frames(events), on_end, keep_alive=_frame(Ping()))


async def _frames(events: AsyncIterator[MessageEvent]) -> AsyncGenerator[bytes, None]:
    """An error after the first byte is an event, the last."""
    try:
        async for event in events:
            yield _frame(event)
    except Exception as error:  # the last place where the client can be told
        yield _frame(error_reply(error))


def _frame(event: MessageEvent) -> bytes:
    return f"event: {event.type}\n".encode() + b"data: " + _encode(event) + b"\n\n"
