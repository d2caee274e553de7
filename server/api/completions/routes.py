"""The routes of POST /v1/completions and POST /v1/fim/completions."""

from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody

from server.access.keys import Role
from server.api.chat.reply import ChatReply
from server.api.chat.wire import ChatCompletion, ChatRequest
from server.api.completions.reply import CompletionReply
from server.api.completions.request import completion_request, fim_request
from server.api.completions.wire import CompletionRequest, FimRequest, TextCompletion
from server.api.shared.respond import respond
from server.generation.completion import complete_prompts
from server.http.disconnect import cancel_on_disconnect
from server.services import Services

_FORMS = "whole or as a stream of chunks"


class CompletionController(Controller):
    @post(
        ["/v1/completions", "/completions"],
        status_code=200,
        operation_id="createCompletion",
        opt={"role": Role.READ},
        responses={200: ResponseSpec(TextCompletion, description=f"The text that continues the prompt, {_FORMS}")},
    )
    async def create(
        self, request: Request[Any, Any, Any], data: JSONBody[CompletionRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        completions = await cancel_on_disconnect(request, complete_prompts(completion_request(data), services))
        reply = CompletionReply(data, completions)
        return await respond(request, reply, is_streamed=bool(data.stream))

    @post(
        ["/v1/fim/completions", "/fim/completions"],
        status_code=200,
        operation_id="createFimCompletion",
        opt={"role": Role.READ},
        responses={200: ResponseSpec(ChatCompletion, description=f"The text that fills the gap, {_FORMS}")},
    )
    async def fill(
        self, request: Request[Any, Any, Any], data: JSONBody[FimRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        """Fill the gap between two texts, in Mistral's form: the reply is like that of a chat."""
        generation = (await cancel_on_disconnect(request, complete_prompts(fim_request(data), services))).answers
        reply = ChatReply(ChatRequest(messages=[], model=data.model), generation, str(request.base_url))
        return await respond(request, reply, is_streamed=bool(data.stream))
