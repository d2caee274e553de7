"""What every request and reply has around it, whatever the route, also where there is none."""

import asyncio
import secrets
import time

from litestar.enums import ScopeType
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send

from server.access.roles import operation_of
from server.metrics import Metrics

_DISCONNECT: HTTPReceiveMessage = {"type": "http.disconnect"}


class Envelope:
    """Gives each reply an id and the time it took to begin; answers HEAD as GET without the body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                took_s = time.perf_counter() - started
                self._metrics.replied(_operation(scope), message["status"], took_s)
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", b"req_" + secrets.token_hex(12).encode()),
                    (b"openai-processing-ms", str(round(1000 * took_s)).encode()),
                ]
            await send(message)

        if scope["method"] == "HEAD":
            await _without_body(self._app, scope, labelled)
        else:
            await self._app(scope, receive, labelled)


def _operation(scope: Scope) -> str:
    """Of the route that was found, "" for none."""
    handler = scope.get("route_handler")
    return operation_of(handler) if isinstance(handler, BaseRouteHandler) else ""


async def _without_body(app: ASGIApp, scope: Scope, send: Send) -> None:
    """As GET, which is left when its body begins: for a stream, that is as if its client had gone."""
    is_over = asyncio.Event()

    async def received() -> HTTPReceiveMessage:
        await is_over.wait()
        return _DISCONNECT

    async def sent(message: Message) -> None:
        if is_over.is_set():
            await asyncio.sleep(0)  # so that a stream that never waits lets its end be noticed
        elif message["type"] == "http.response.body":
            is_over.set()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await send(message)

    await app({**scope, "method": "GET"}, received, sent)  # type: ignore[arg-type]
