"""The Litestar application: routes, errors, and the services' lifetime."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide

from server.access.boundary import Access, AccessMiddleware
from server.access.roles import check_role
from server.api.anthropic.routes import AnthropicController
from server.api.batches.routes import BatchController
from server.api.batches.worker import BatchWorker
from server.api.chat.routes import ChatController
from server.api.cloister.health import HealthController
from server.api.cloister.index import IndexController
from server.api.cloister.metrics import MetricsController
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
from server.http.middleware import RequestMiddleware
from server.http.openapi import name_operations, openapi_config
from server.http.problems import HANDLERS
from server.jobs.runner import JobRunner
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.page.documents import DocumentController
from server.page.routes import PageController
from server.resources.reloading import Reload
from server.services import Services

_MAX_BODY = 10 << 20  # bytes


def create_app(
    open_services: Callable[[], AbstractAsyncContextManager[Services]],
    access: Access,
    metrics: Metrics,
    audit: AuditLog,
    reload: Reload,
) -> Litestar:
    """`open_services` is entered when the server starts and left when it stops; tests pass their own. `reload` takes up
    the folders that the settings name now."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_services() as services, McpEndpoint() as endpoint:
            background, batches = BackgroundResponses(services), BatchWorker(services)
            await background.enqueue_unfinished()
            await batches.enqueue_unfinished()
            async with JobRunner(services.jobs, {**background.handlers, **batches.handlers}) as job_runner:
                app.state.services = services
                app.state.mcp = endpoint
                app.state.background = background
                app.state.job_runner = job_runner
                yield

    async def reload_folders() -> Reload:
        return reload

    async def mcp(state: State) -> McpEndpoint:
        found = state.mcp
        assert isinstance(found, McpEndpoint)
        return found

    async def job_runner(state: State) -> JobRunner:
        found = state.job_runner
        assert isinstance(found, JobRunner)
        return found

    async def background_work(state: State) -> BackgroundResponses:
        found = state.background
        assert isinstance(found, BackgroundResponses)
        return found

    async def services(state: State, request: Request[Any, Any, Any]) -> Services:
        found = state.services
        assert isinstance(found, Services)
        return found.seen_by(request.scope["user"])

    app = Litestar(
        route_handlers=[
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
            McpController,
            MetricsController,
            ModelController,
            LlamaCppController,
            OllamaController,
            PageController,
            RerankController,
            ResponseController,
            VectorStoreController,
            VectorStoreFileController,
        ],
        dependencies={
            "background_work": Provide(background_work),  # a field of a body must not have a dependency's name
            "job_runner": Provide(job_runner),
            "mcp": Provide(mcp),
            "reload_folders": Provide(reload_folders),
            "services": Provide(services),
        },
        exception_handlers=HANDLERS,
        guards=[check_role],
        lifespan=[lifespan],
        openapi_config=openapi_config(),
        logging_config=None,
        request_class=BodyRequest,
        before_request=refuse_foreign_body,
        request_max_body_size=_MAX_BODY,
    )
    app.asgi_handler = RequestMiddleware(
        AccessMiddleware(app.asgi_handler, access), metrics, audit
    )  # around the routing, so that what it refuses is told alike
    name_operations(app)
    return app
