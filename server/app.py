"""The Litestar application: routes, errors, and the services' lifetime."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide

from server.access.boundary import Access, Boundary
from server.access.roles import check_role
from server.audit import AuditLog
from server.backlog import Backlog
from server.batches.running import BatchWork
from server.body import BodyRequest, refuse_foreign_body
from server.controllers.anthropic import AnthropicController
from server.controllers.batches import BatchController
from server.controllers.chat import ChatController
from server.controllers.completions import CompletionController
from server.controllers.documents import DocumentController
from server.controllers.embeddings import EmbeddingController
from server.controllers.files import FileController
from server.controllers.health import HealthController
from server.controllers.index import IndexController
from server.controllers.mcp import McpController
from server.controllers.metrics import MetricsController
from server.controllers.models import ModelController
from server.controllers.native import NativeController
from server.controllers.ollama import OllamaController
from server.controllers.page import PageController
from server.controllers.rerank import RerankController
from server.controllers.responses import ResponseController
from server.controllers.vector_stores import (
    FileBatchController,
    VectorStoreController,
    VectorStoreFileController,
)
from server.envelope import Envelope
from server.exceptions import HANDLERS
from server.mcp.endpoint import McpEndpoint
from server.metrics import Metrics
from server.openapi import name_operations, openapi_config
from server.reloading import Reload
from server.responses.background import BackgroundResponses
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
            background, batch_work = BackgroundResponses(services), BatchWork(services)
            async with Backlog([background, batch_work]) as backlog:
                app.state.services = services
                app.state.mcp = endpoint
                app.state.background = background
                app.state.batch_work = batch_work
                app.state.backlog = backlog
                yield

    async def reload_folders() -> Reload:
        return reload

    async def mcp(state: State) -> McpEndpoint:
        found = state.mcp
        assert isinstance(found, McpEndpoint)
        return found

    async def backlog(state: State) -> Backlog:
        found = state.backlog
        assert isinstance(found, Backlog)
        return found

    async def background_work(state: State) -> BackgroundResponses:
        found = state.background
        assert isinstance(found, BackgroundResponses)
        return found

    async def batch_work(state: State) -> BatchWork:
        found = state.batch_work
        assert isinstance(found, BatchWork)
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
            NativeController,
            OllamaController,
            PageController,
            RerankController,
            ResponseController,
            VectorStoreController,
            VectorStoreFileController,
        ],
        dependencies={
            "background_work": Provide(background_work),  # a field of a body must not have a dependency's name
            "backlog": Provide(backlog),
            "batch_work": Provide(batch_work),
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
    app.asgi_handler = Envelope(
        Boundary(app.asgi_handler, access), metrics, audit
    )  # around the routing, so that what it refuses is told alike
    name_operations(app)
    return app
