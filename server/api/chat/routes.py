"""POST /v1/chat/completions."""

from typing import Any

from litestar import Controller, MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody

from server.api.chat.reply import ChatReply
from server.api.chat.request import ask_of
from server.api.chat.wire import ChatCompletion, ChatRequest
from server.generation.generate import generate
from server.http.disconnect import unless_gone
from server.http.sse import event_stream
from server.services import Services


class ChatController(Controller):
    @post(
        ["/v1/chat/completions", "/chat/completions"],
        status_code=200,
        operation_id="createChatCompletion",
        responses={200: ResponseSpec(ChatCompletion, description="The answer, whole or as a stream of its chunks")},
    )
    async def create(
        self, request: Request[Any, Any, Any], data: JSONBody[ChatRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        answers = await unless_gone(request, generate(ask_of(data, request.headers), services))
        reply = ChatReply(data, answers, str(request.base_url))
        if data.stream:
            return event_stream(reply.chunks(), answers.aclose)
        try:
            completion = await unless_gone(request, reply.completion())
        finally:
            await answers.aclose()
        return Response(completion, media_type=MediaType.JSON)
