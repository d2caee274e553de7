"""The routes of llama.cpp's server: /completion, /infill, and what editors use beside them."""

import time
from functools import partial
from importlib.metadata import version
from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromQuery, JSONBody

from models.llm.base import Tokenizer
from server.access.keys import Role
from server.api.chat.request import generation_request
from server.api.chat.wire import ChatRequest
from server.api.llamacpp.reply import LlamaCppReply
from server.api.llamacpp.request import completion_request, infill_request
from server.api.llamacpp.wire import (
    DetokenizeReply,
    DetokenizeRequest,
    GenerationSettings,
    LlamaCppCompletion,
    LlamaCppInfillRequest,
    LlamaCppProps,
    LlamaCppRequest,
    LlamaCppSlot,
    LoraAdapter,
    TemplateReply,
    TokenizeReply,
    TokenizeRequest,
    TokenPiece,
)
from server.api.shared.respond import respond
from server.generation.completion import complete_prompts
from server.generation.completion_request import RawCompletionRequest
from server.generation.target import require_completion_model, resolve_target
from server.http.disconnect import cancel_on_disconnect
from server.http.sse import event_stream
from server.resources.model_source import ModelSource
from server.services import Services

_COMPLETION_SPEC = {
    200: ResponseSpec(
        LlamaCppCompletion | list[LlamaCppCompletion],  # type: ignore[arg-type]
        description="The continuation, or a list of several; as chunks in a stream",
    )
}


class LlamaCppController(Controller):
    @post(
        ["/completion", "/v1/completion"],
        status_code=200,
        operation_id="createNativeCompletion",
        opt={"role": Role.READ},
        responses=_COMPLETION_SPEC,
    )
    async def complete(
        self, request: Request[Any, Any, Any], data: JSONBody[LlamaCppRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        return await _reply(request, data, completion_request(data), services)

    @post(
        ["/infill", "/v1/infill"],
        status_code=200,
        operation_id="infill",
        opt={"role": Role.READ},
        responses=_COMPLETION_SPEC,
    )
    async def infill(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[LlamaCppInfillRequest],
        services: NamedDependency[Services],
    ) -> Response[Any]:
        """Fill the gap between two texts."""
        return await _reply(request, data, infill_request(data), services)

    @post(["/tokenize", "/v1/tokenize"], status_code=200, operation_id="tokenize", opt={"role": Role.READ})
    async def tokenize(self, data: JSONBody[TokenizeRequest], services: NamedDependency[Services]) -> TokenizeReply:
        tokenizer = _tokenizer(data.model, services)
        parses_special = data.parse_special is not False
        tokens = tokenizer.tokenize(data.content, parse_special=parses_special, add_bos=bool(data.add_special))
        if not data.with_pieces:
            return TokenizeReply([*tokens])
        pieces = zip(tokens, tokenizer.token_bytes(tokens), strict=True)
        return TokenizeReply([TokenPiece(token, _text(piece)) for token, piece in pieces])

    @post(["/detokenize", "/v1/detokenize"], status_code=200, operation_id="detokenize", opt={"role": Role.READ})
    async def detokenize(
        self, data: JSONBody[DetokenizeRequest], services: NamedDependency[Services]
    ) -> DetokenizeReply:
        return DetokenizeReply(_tokenizer(data.model, services).detokenize(data.tokens))

    @post(
        ["/apply-template", "/v1/apply-template"],
        status_code=200,
        operation_id="applyTemplate",
        opt={"role": Role.READ},
    )
    async def apply_template(self, data: JSONBody[ChatRequest], services: NamedDependency[Services]) -> TemplateReply:
        """Return a conversation as the model's chat template renders it."""
        conversation = generation_request(data)
        tokenizer = _tokenizer(conversation.model, services)
        text = tokenizer.render(conversation.messages, conversation.tools, conversation.template_options)
        return TemplateReply(text)

    @get(["/props", "/v1/props"], operation_id="props")
    async def props(self, services: NamedDependency[Services], model: FromQuery[str | None] = None) -> LlamaCppProps:
        """Return properties of the server and of a model, which need not be loaded."""
        source, tokenizer = _source(model, services), _tokenizer(model, services)
        settings = GenerationSettings(source.n_ctx, {"temperature": source.profile.temperature})
        return LlamaCppProps(
            default_generation_settings=settings,
            total_slots=source.profile.num_slots,
            model_path=source.profile.file_name,
            model_alias=source.name,
            chat_template=tokenizer.chat_template,
            bos_token=tokenizer.bos,
            eos_token=tokenizer.eos,
            build_info=f"cloister {version('cloister')}",
        )

    @get(["/slots", "/v1/slots"], operation_id="slots")
    async def slots(
        self, services: NamedDependency[Services], model: FromQuery[str | None] = None
    ) -> list[LlamaCppSlot]:
        """Return the engine's slots. Requests own no slot, so the first ones are shown as busy."""
        source = _source(model, services)
        num_slots, num_pending = source.profile.num_slots, source.num_pending
        return [LlamaCppSlot(id, source.n_ctx, id < num_pending) for id in range(num_slots)]

    @get("/lora-adapters", operation_id="loraAdapters")
    async def adapters(self, services: NamedDependency[Services]) -> list[LoraAdapter]:
        """Return the LoRA adapters of the default model."""
        adapters = services.pool.default.profile.adapters
        return [LoraAdapter(id, each.path.rsplit("/", 1)[-1], each.scale) for id, each in enumerate(adapters)]


async def _reply(
    request: Request[Any, Any, Any], data: LlamaCppRequest, completion: RawCompletionRequest, services: Services
) -> Response[Any]:
    received_at = time.monotonic()
    completions = await cancel_on_disconnect(request, complete_prompts(completion, services))
    reply = LlamaCppReply(data, completions, received_at)
    return await respond(request, reply, is_streamed=bool(data.stream), stream=_stream)


_stream = partial(event_stream, last=b"")


def _source(name: str | None, services: Services) -> ModelSource:
    return services.pool[resolve_target(name, services).model]


def _tokenizer(name: str | None, services: Services) -> Tokenizer:
    return require_completion_model(_source(name, services)).tokenizer


def _text(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
