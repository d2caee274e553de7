"""The Litestar application: its routes, the dependencies of its handlers, and the lifetime of its services."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide

from server.access.middleware import Access, AccessMiddleware
from server.access.roles import check_role
from server.api.anthropic.routes import AnthropicController
from server.api.batches.routes import BatchController
from server.api.batches.worker import BatchWorker
from server.api.chat.routes import ChatController
from server.api.cloister.collections.routes import CollectionController
from server.api.cloister.health.routes import HealthController
from server.api.cloister.index.routes import IndexController
from server.api.cloister.metrics.routes import MetricsController
from server.api.cloister.search.routes import SearchController
from server.api.completions.routes import CompletionController
from server.api.embeddings.routes import EmbeddingController
from server.api.files.routes import FileController
from server.api.llamacpp.routes import LlamaCppController
from server.api.mcp.endpoint import McpEndpoint
from server.api.mcp.routes import McpController
from server.api.models.routes import ModelController
from server.api.ollama.routes import OllamaController
from server.api.rerank.routes import RerankController
from server.api.responses.background import BackgroundResponses
from server.api.responses.routes import ResponseController
from server.api.vector_stores.routes import (
    FileBatchController,
    VectorStoreController,
    VectorStoreFileController,
)
from server.http.body import BodyRequest, refuse_foreign_body
from server.http.openapi import name_operations, openapi_config
from server.http.problems import HANDLERS
from server.jobs.runner import JobRunner
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.observability.middleware import RequestMiddleware
from server.page.documents import DocumentController
from server.page.routes import PageController
from server.resources.reloading import Reload
from server.services import Services

_MAX_BODY_BYTES = 10 << 20

_CONTROLLERS: Final = (
    AnthropicController,
    BatchController,
    ChatController,
    CompletionController,
    DocumentController,
    EmbeddingController,
    FileBatchController,
    FileController,
    HealthController,
    IndexController,
    CollectionController,
    SearchController,
    LlamaCppController,
    McpController,
    MetricsController,
    ModelController,
    OllamaController,
    PageController,
    RerankController,
    ResponseController,
    VectorStoreController,
    VectorStoreFileController,
)

T = TypeVar("T")


def create_app(
    open_services: Callable[[], AbstractAsyncContextManager[Services]],
    access: Access,
    metrics: Metrics,
    audit: AuditLog,
    reload: Reload,
) -> Litestar:
    """Return the application. `open_services` is entered when the server starts and left when it stops.

    `reload` reads the settings again and watches the folders in them.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_services() as services, _workers(app, services):
            app.state.services = services
            yield

    async def reload_folders() -> Reload:
        return reload

    app = Litestar(
        route_handlers=_CONTROLLERS,
        dependencies={  # parameters of handlers by these names are injected, so no field of a body may have one
            "background_work": Provide(_from_state("background", BackgroundResponses)),
            "job_runner": Provide(_from_state("job_runner", JobRunner)),
            "mcp": Provide(_from_state("mcp", McpEndpoint)),
            "reload_folders": Provide(reload_folders),
            "services": Provide(_services),
        },
        exception_handlers=HANDLERS,
        guards=[check_role],
        lifespan=[lifespan],
        openapi_config=openapi_config(),
        logging_config=None,
        request_class=BodyRequest,
        before_request=refuse_foreign_body,
        request_max_body_size=_MAX_BODY_BYTES,
    )
    # Around the routing, so that refused requests get an id and are counted and audited too.
    app.asgi_handler = RequestMiddleware(AccessMiddleware(app.asgi_handler, access), metrics, audit)
    name_operations(app)
    return app


@contextlib.asynccontextmanager
async def _workers(app: Litestar, services: Services) -> AsyncIterator[None]:
    """Run the job workers and the MCP endpoint."""
    background, batches = BackgroundResponses(services), BatchWorker(services)
    await background.enqueue_unfinished()
    await batches.enqueue_unfinished()
    async with McpEndpoint() as mcp, JobRunner(services.jobs, {**background.handlers, **batches.handlers}) as runner:
        app.state.mcp = mcp
        app.state.background = background
        app.state.job_runner = runner
        yield


def _from_state(name: str, kind: type[T]) -> Callable[[State], Awaitable[T]]:
    """Return a provider of an attribute of the application's state."""

    async def provide(state: State) -> T:
        value = state[name]
        assert isinstance(value, kind)
        return value

    return provide


async def _services(state: State, request: Request[Any, Any, Any]) -> Services:
    services = state.services
    assert isinstance(services, Services)
    return services.seen_by(request.scope["user"])
