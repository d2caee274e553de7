"""The route of POST /v1/chat/completions."""

from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody

from server.access.keys import Role
from server.api.chat.reply import ChatReply
from server.api.chat.request import generation_request
from server.api.chat.wire import ChatCompletion, ChatRequest
from server.api.shared.respond import respond
from server.generation.generate import generate
from server.http.disconnect import cancel_on_disconnect
from server.services import Services


class ChatController(Controller):
    @post(
        ["/v1/chat/completions", "/chat/completions"],
        status_code=200,
        operation_id="createChatCompletion",
        opt={"role": Role.READ},
        responses={200: ResponseSpec(ChatCompletion, description="The reply, whole or as a stream of chunks")},
    )
    async def create(
        self, request: Request[Any, Any, Any], data: JSONBody[ChatRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        generation = await cancel_on_disconnect(request, generate(generation_request(data, request.headers), services))
        reply = ChatReply(data, generation, str(request.base_url))
        return await respond(request, reply, is_streamed=bool(data.stream))
