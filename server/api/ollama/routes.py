"""The routes of Ollama's API."""

from functools import partial
from typing import Any, TypeVar

from litestar import Controller, MediaType, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody

from models.errors import CannotInsert
from server.access.keys import Role
from server.api.ollama.embeddings import embed, embed_one
from server.api.ollama.models import describe_model, list_running_models, list_tags
from server.api.ollama.reply import (
    MakeFrame,
    OllamaReply,
    OllamaTimer,
    chat_frame,
    generate_frame,
    loaded_frame,
)
from server.api.ollama.request import (
    chat_generation_request,
    completion_request,
    is_raw,
    parse_keep_alive,
    prompt_generation_request,
)
from server.api.ollama.wire import (
    OllamaChatFrame,
    OllamaChatRequest,
    OllamaEmbeddings,
    OllamaEmbedRequest,
    OllamaError,
    OllamaFrame,
    OllamaGenerateFrame,
    OllamaGenerateRequest,
    OllamaLegacyEmbedding,
    OllamaLegacyEmbedRequest,
    OllamaModelInfo,
    OllamaModelRequest,
    OllamaRequest,
    OllamaRunningList,
    OllamaTagList,
    OllamaVersion,
)
from server.api.shared.respond import respond
from server.errors import AccessDenied, RequestError, UnknownModel
from server.generation.completion import complete_prompts
from server.generation.completion_request import RawCompletionRequest
from server.generation.generate import generate
from server.generation.request import GenerationRequest
from server.generation.stream import GenerationStream
from server.generation.target import resolve_target
from server.http.disconnect import cancel_on_disconnect
from server.http.ndjson import MEDIA_TYPE, line_stream
from server.http.openapi import STREAM_TYPE
from server.http.problems import HANDLERS, Problem, headers_of, problem_of
from server.services import Services
from server.settings.settings import GROUNDED

_VERSION = "0.13.5"  # of Ollama; some clients refuse older versions
_FAILED = ResponseSpec(OllamaError, description="The error")

_Frame = TypeVar("_Frame", bound=OllamaFrame)


async def _accept_any_content_type(request: Request[Any, Any, Any]) -> None:
    """Accept JSON under any content type, since curl and others label it a form. Raises `RequestError` for a missing
    body. Pages of other sites are refused earlier, by `AccessMiddleware`."""
    if request.route_handler.parsed_data_field is not None and not await request.body():
        raise RequestError("The body is missing; send JSON.", None, "missing_required_parameter")


def _error_text(error: Exception) -> OllamaError:
    """Return the error; in Ollama's words where clients look for them."""
    if isinstance(error, CannotInsert):
        return OllamaError(f"{error.name} does not support insert")
    if isinstance(error, UnknownModel):
        return OllamaError(f"model '{error.name}' not found; there are: {', '.join(error.known)}")
    problem = problem_of(error)
    where = f"{problem.detail.param}: " if problem.detail.param else ""
    return OllamaError(where + problem.detail.message)


def _error_response(_: Request[Any, Any, Any], error: Exception) -> Response[OllamaError]:
    problem: Problem = problem_of(error)
    headers = headers_of(error, problem)
    return Response(_error_text(error), status_code=problem.status, media_type=MediaType.JSON, headers=headers)


class OllamaController(Controller):
    before_request = staticmethod(_accept_any_content_type)
    exception_handlers = dict.fromkeys(HANDLERS, _error_response)

    @get("/api/version", operation_id="ollamaVersion")
    async def version(self) -> OllamaVersion:
        return OllamaVersion(_VERSION)

    @get("/api/tags", operation_id="ollamaTags")
    async def list_models(self, services: NamedDependency[Services]) -> OllamaTagList:
        return list_tags(services)

    @get("/api/ps", operation_id="ollamaRunning")
    async def list_running(self, services: NamedDependency[Services]) -> OllamaRunningList:
        return list_running_models(services)

    @post("/api/show", status_code=200, operation_id="ollamaShow", opt={"role": Role.READ}, responses={400: _FAILED})
    async def show(self, data: JSONBody[OllamaModelRequest], services: NamedDependency[Services]) -> OllamaModelInfo:
        return describe_model(data, services)

    @post(
        "/api/chat",
        status_code=200,
        operation_id="ollamaChat",
        opt={"role": Role.READ, STREAM_TYPE: MEDIA_TYPE},
        responses={200: ResponseSpec(OllamaChatFrame, description="The reply, in lines or whole"), 400: _FAILED},
    )
    async def chat(
        self, request: Request[Any, Any, Any], data: JSONBody[OllamaChatRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        if not data.messages:
            return await _load(request, data, OllamaChatFrame, services)
        return await _reply(request, data, chat_generation_request(data, request.headers), chat_frame, services)

    @post(
        "/api/generate",
        status_code=200,
        operation_id="ollamaGenerate",
        opt={"role": Role.READ, STREAM_TYPE: MEDIA_TYPE},
        responses={200: ResponseSpec(OllamaGenerateFrame, description="The reply, in lines or whole"), 400: _FAILED},
    )
    async def generate(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[OllamaGenerateRequest],
        services: NamedDependency[Services],
    ) -> Response[Any]:
        if not data.prompt and not data.suffix:
            return await _load(request, data, OllamaGenerateFrame, services)
        generation_request = (
            completion_request(data) if is_raw(data) else prompt_generation_request(data, request.headers)
        )
        return await _reply(request, data, generation_request, generate_frame, services)

    @post("/api/embed", status_code=200, operation_id="ollamaEmbed", opt={"role": Role.READ}, responses={400: _FAILED})
    async def embed(
        self, request: Request[Any, Any, Any], data: JSONBody[OllamaEmbedRequest], services: NamedDependency[Services]
    ) -> OllamaEmbeddings:
        return await cancel_on_disconnect(request, embed(data, services.embeddings))

    @post(
        "/api/embeddings",
        status_code=200,
        operation_id="ollamaEmbedOne",
        opt={"role": Role.READ},
        responses={400: _FAILED},
    )
    async def embed_one(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[OllamaLegacyEmbedRequest],
        services: NamedDependency[Services],
    ) -> OllamaLegacyEmbedding:
        return await cancel_on_disconnect(request, embed_one(data, services.embeddings))

    @post(
        ["/api/pull", "/api/push", "/api/create", "/api/copy"],
        operation_id="ollamaChange",
        opt={"role": Role.ADMIN},
        responses={403: _FAILED},
    )
    async def change(self) -> None:
        """Refused: models are managed in the server's settings."""
        raise _refusal()

    @delete("/api/delete", operation_id="ollamaDelete", opt={"role": Role.ADMIN}, responses={403: _FAILED})
    async def delete(self) -> None:
        """Refused: models are managed in the server's settings."""
        raise _refusal()

    @post("/api/blobs/{digest:path}", operation_id="ollamaUpload", opt={"role": Role.ADMIN}, responses={403: _FAILED})
    async def upload(self, digest: FromPath[str]) -> None:
        """Refused: models are managed in the server's settings."""
        raise _refusal()


def _refusal() -> AccessDenied:
    message = "Models are managed in the server's settings and never fetched; add or remove them there."
    return AccessDenied(403, message, "read_only")


async def _load(
    request: Request[Any, Any, Any], data: OllamaRequest, kind: type[_Frame], services: Services
) -> Response[_Frame]:
    """Load the model, or unload it as soon as nobody uses it."""
    seconds = parse_keep_alive(data.keep_alive)
    name = resolve_target(data.model, services).model
    services.pool.set_keep_s(services.pool[name], seconds)
    if seconds != 0:
        await cancel_on_disconnect(request, _load_model(name, services))
    frame = loaded_frame(kind, data.model or GROUNDED, "unload" if seconds == 0 else "load")
    return Response(frame, media_type=MediaType.JSON)


async def _load_model(name: str, services: Services) -> None:
    async with services.pool.use(name):
        return


async def _start(
    generation_request: GenerationRequest | RawCompletionRequest,
    keep_s: float | None,
    timer: OllamaTimer,
    services: Services,
) -> GenerationStream:
    name = resolve_target(generation_request.model, services).model
    async with services.pool.use(name) as model:
        services.pool.set_keep_s(model, keep_s)
        timer.mark_loaded()
        if isinstance(generation_request, RawCompletionRequest):
            return (await complete_prompts(generation_request, services)).answers
        return await generate(generation_request, services)


async def _reply(
    request: Request[Any, Any, Any],
    data: OllamaRequest,
    generation_request: GenerationRequest | RawCompletionRequest,
    make: MakeFrame[_Frame],
    services: Services,
) -> Response[Any]:
    """Return the reply, as a stream unless the request says otherwise."""
    timer = OllamaTimer()
    generation = await cancel_on_disconnect(
        request, _start(generation_request, parse_keep_alive(data.keep_alive), timer, services)
    )
    reply = OllamaReply(make, data.model or GROUNDED, generation, timer, str(request.base_url))
    stream = partial(line_stream, keep_alive=reply.keep_alive, error_of=_error_text)
    return await respond(request, reply, is_streamed=data.stream is not False, stream=stream)
