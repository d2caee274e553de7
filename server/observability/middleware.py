"""The middleware around every request, with or without a route: request id, metrics, trace, audit log and HEAD."""

import asyncio
import secrets
import time

from litestar.enums import ScopeType
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from server.access.principal import Principal
from server.access.roles import is_change, operation_of
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.observability.tracing import RequestTrace
from server.storage.records import AuditEntry

_DISCONNECT: HTTPReceiveMessage = {"type": "http.disconnect"}


class RequestMiddleware:
    """Gives each reply an id and its processing time; counts, traces and audits it; answers HEAD."""

    def __init__(self, app: ASGIApp, metrics: Metrics, audit: AuditLog) -> None:
        self._app = app
        self._metrics = metrics
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        with self._metrics.tracing.request(scope["method"]) as trace:
            await self._answer(scope, receive, send, trace)

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send, trace: RequestTrace) -> None:
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                took_s = time.perf_counter() - started
                id = f"req_{secrets.token_hex(12)}"
                self._metrics.observe_reply(_operation(scope), message["status"], took_s)
                trace.record_reply(_operation(scope), message["status"])
                self._audit_request(scope, message["status"], id)
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", id.encode()),
                    (b"openai-processing-ms", str(round(1000 * took_s)).encode()),
                ]
            await send(message)

        if scope["method"] == "HEAD":
            await _without_body(self._app, scope, send_with_id)
        else:
            await self._app(scope, receive, send_with_id)

    def _audit_request(self, scope: HTTPScope, status: int, id: str) -> None:
        """Write the audit entry. Ids of a failed request are left out: the client chose them."""
        handler, user, client = scope.get("route_handler"), scope.get("user"), scope.get("client")
        ids = {name: str(value) for name, value in scope.get("path_params", {}).items()} if status < 400 else {}
        entry = AuditEntry(
            at=round(time.time(), 3),
            key=user.name if isinstance(user, Principal) else "",
            address=client[0] if client else "",
            operation=_operation(scope),
            status=status,
            request=id,
            ids=ids,
        )
        self._audit.record(entry, is_change=isinstance(handler, BaseRouteHandler) and is_change(handler))


def _operation(scope: Scope) -> str:
    """Return the operation of the matched route, "" for none."""
    handler = scope.get("route_handler")
    return operation_of(handler) if isinstance(handler, BaseRouteHandler) else ""


async def _without_body(app: ASGIApp, scope: Scope, send: Send) -> None:
    """Handle the request as GET until its body begins; then a stream ends as if its client had disconnected."""
    is_over = asyncio.Event()

    async def receive_disconnect() -> HTTPReceiveMessage:
        await is_over.wait()
        return _DISCONNECT

    async def send_head(message: Message) -> None:
        if is_over.is_set():
            await asyncio.sleep(0)  # so that a stream that never waits notices the disconnection
        elif message["type"] == "http.response.body":
            is_over.set()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await send(message)

    await app({**scope, "method": "GET"}, receive_disconnect, send_head)  # type: ignore[arg-type]
