"""The Litestar application: routes, errors, and the services' lifetime."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from server.controllers.chat import ChatController
from server.controllers.documents import DocumentController
from server.controllers.health import HealthController
from server.controllers.index import IndexController
from server.controllers.models import ModelController
from server.exceptions import HANDLERS
from server.services import Services

_MAX_BODY = 10 << 20  # bytes


def create_app(open_services: Callable[[], AbstractAsyncContextManager[Services]]) -> Litestar:
    """`open_services` is entered when the server starts and left when it stops; tests pass their own."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_services() as services:
            app.state.services = services
            yield

    async def services(state: State) -> Services:
        found = state.services
        assert isinstance(found, Services)
        return found

    return Litestar(
        route_handlers=[ChatController, DocumentController, HealthController, IndexController, ModelController],
        dependencies={"services": Provide(services)},
        exception_handlers=HANDLERS,
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=_MAX_BODY,
    )
