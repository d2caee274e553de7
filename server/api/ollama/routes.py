"""Ollama's API: /api/chat, /api/generate, and what its clients look for first."""

from functools import partial
from typing import Any, TypeVar

from litestar import Controller, MediaType, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody

from models.errors import CannotInsert
from server.api.ollama.embeddings import embed, embed_one
from server.api.ollama.models import running, shown, tags
from server.api.ollama.reply import (
    Clock,
    MakeFrame,
    OllamaReply,
    chat_frame,
    generate_frame,
    loaded_frame,
)
from server.api.ollama.request import chat_ask, completion_of, generate_ask, is_bare, keep_seconds
from server.api.ollama.wire import (
    AskRequest,
    ChatFrame,
    Embedded,
    EmbedRequest,
    ErrorText,
    Frame,
    GenerateFrame,
    GenerateRequest,
    ModelRequest,
    ModelShown,
    OldEmbedded,
    OldEmbedRequest,
    OllamaChatRequest,
    RunningList,
    TagList,
    Version,
)
from server.api.shared.respond import respond
from server.errors import AccessDenied, RequestError, UnknownModel
from server.generation.completion import complete_prompts
from server.generation.completion_request import RawCompletionRequest
from server.generation.generate import generate
from server.generation.request import GenerationRequest
from server.generation.stream import GenerationStream
from server.generation.target import target_of
from server.http.disconnect import unless_gone
from server.http.ndjson import MEDIA_TYPE, line_stream
from server.http.openapi import STREAM_TYPE
from server.http.problems import HANDLERS, Problem, headers_of, problem_of
from server.services import Services
from server.settings.settings import GROUNDED

_VERSION = "0.13.5"  # of Ollama, whose API this is: some clients use nothing older
_FAILED = ResponseSpec(ErrorText, description="Why it could not be done")

_Frame = TypeVar("_Frame", bound=Frame)


async def _take_any_body(request: Request[Any, Any, Any]) -> None:
    """Of whatever type it is said to be: curl and others say "form", and send JSON. Pages of other sites are refused by
    the boundary, where they come from. Raises `RequestError` for none where one is needed."""
    if request.route_handler.parsed_data_field is not None and not await request.body():
        raise RequestError("The body is missing.", None, "missing_required_parameter")


def _error_text(error: Exception) -> ErrorText:
    """In Ollama's own words where clients look for them."""
    if isinstance(error, CannotInsert):
        return ErrorText(f"{error.name} does not support insert")
    if isinstance(error, UnknownModel):
        return ErrorText(f"model '{error.name}' not found; there are: {', '.join(error.known)}")
    problem = problem_of(error)
    where = f"{problem.detail.param}: " if problem.detail.param else ""
    return ErrorText(where + problem.detail.message)


def _respond(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorText]:
    problem: Problem = problem_of(error)
    headers = headers_of(error, problem)
    return Response(_error_text(error), status_code=problem.status, media_type=MediaType.JSON, headers=headers)


class OllamaController(Controller):
    before_request = staticmethod(_take_any_body)
    exception_handlers = dict.fromkeys(HANDLERS, _respond)

    @get("/api/version", operation_id="ollamaVersion")
    async def version(self) -> Version:
        return Version(_VERSION)

    @get("/api/tags", operation_id="ollamaTags")
    async def list_models(self, services: NamedDependency[Services]) -> TagList:
        return tags(services)

    @get("/api/ps", operation_id="ollamaRunning")
    async def list_running(self, services: NamedDependency[Services]) -> RunningList:
        return running(services)

    @post("/api/show", status_code=200, operation_id="ollamaShow", responses={400: _FAILED})
    async def show(self, data: JSONBody[ModelRequest], services: NamedDependency[Services]) -> ModelShown:
        return shown(data, services)

    @post(
        "/api/chat",
        status_code=200,
        operation_id="ollamaChat",
        responses={200: ResponseSpec(ChatFrame, description="The answer, in lines or whole"), 400: _FAILED},
        opt={STREAM_TYPE: MEDIA_TYPE},
    )
    async def chat(
        self, request: Request[Any, Any, Any], data: JSONBody[OllamaChatRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        if not data.messages:
            return await _load(request, data, ChatFrame, services)
        return await _answer(request, data, chat_ask(data, request.headers), chat_frame, services)

    @post(
        "/api/generate",
        status_code=200,
        operation_id="ollamaGenerate",
        responses={200: ResponseSpec(GenerateFrame, description="The answer, in lines or whole"), 400: _FAILED},
        opt={STREAM_TYPE: MEDIA_TYPE},
    )
    async def generate(
        self, request: Request[Any, Any, Any], data: JSONBody[GenerateRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        if not data.prompt and not data.suffix:
            return await _load(request, data, GenerateFrame, services)
        asked = completion_of(data) if is_bare(data) else generate_ask(data, request.headers)
        return await _answer(request, data, asked, generate_frame, services)

    @post("/api/embed", status_code=200, operation_id="ollamaEmbed", responses={400: _FAILED})
    async def embed(
        self, request: Request[Any, Any, Any], data: JSONBody[EmbedRequest], services: NamedDependency[Services]
    ) -> Embedded:
        return await unless_gone(request, embed(data, services.embeddings))

    @post("/api/embeddings", status_code=200, operation_id="ollamaEmbedOne", responses={400: _FAILED})
    async def embed_one(
        self, request: Request[Any, Any, Any], data: JSONBody[OldEmbedRequest], services: NamedDependency[Services]
    ) -> OldEmbedded:
        return await unless_gone(request, embed_one(data, services.embeddings))

    @post(["/api/pull", "/api/push", "/api/create", "/api/copy"], operation_id="ollamaChange", responses={403: _FAILED})
    async def change(self) -> None:
        """Never done."""
        raise _refusal()

    @delete("/api/delete", operation_id="ollamaDelete", responses={403: _FAILED})
    async def delete(self) -> None:
        """Never done."""
        raise _refusal()

    @post("/api/blobs/{digest:path}", operation_id="ollamaUpload", responses={403: _FAILED})
    async def upload(self, digest: FromPath[str]) -> None:
        """Never done."""
        raise _refusal()


def _refusal() -> AccessDenied:
    message = "Which models there are is a matter of the server's settings, and none is ever fetched; add it there."
    return AccessDenied(403, message, "read_only")


async def _load(
    request: Request[Any, Any, Any], data: AskRequest, kind: type[_Frame], services: Services
) -> Response[_Frame]:
    """Loads the model, or lets it go, as soon as nobody uses it."""
    seconds = keep_seconds(data.keep_alive)
    name = target_of(data.model, services).model
    services.pool[name].keep_s = seconds
    if seconds != 0:
        await unless_gone(request, _loaded(name, services))
    frame = loaded_frame(kind, data.model or GROUNDED, "unload" if seconds == 0 else "load")
    return Response(frame, media_type=MediaType.JSON)


async def _loaded(name: str, services: Services) -> None:
    async with services.pool.use(name):
        return


async def _started(
    ask: GenerationRequest | RawCompletionRequest, keep_s: float | None, clock: Clock, services: Services
) -> GenerationStream:
    name = target_of(ask.model, services).model
    async with services.pool.use(name) as model:
        model.keep_s = keep_s
        clock.loaded()
        if isinstance(ask, RawCompletionRequest):
            return (await complete_prompts(ask, services)).answers
        return await generate(ask, services)


async def _answer(
    request: Request[Any, Any, Any],
    data: AskRequest,
    ask: GenerationRequest | RawCompletionRequest,
    make: MakeFrame[_Frame],
    services: Services,
) -> Response[Any]:
    """Streamed unless it is asked not to be."""
    clock = Clock()
    answers = await unless_gone(request, _started(ask, keep_seconds(data.keep_alive), clock, services))
    reply = OllamaReply(make, data.model or GROUNDED, answers, clock, str(request.base_url))
    stream = partial(line_stream, silent=reply.silent, error_of=_error_text)
    return await respond(request, reply, is_streamed=data.stream is not False, stream=stream)
