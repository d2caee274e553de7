"""The Model Context Protocol over HTTP, stateless: no request depends on another."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from litestar.types import ASGIApp

from server.api.mcp import tools
from server.http.problems import problem_of
from server.services import Services

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

_SERVICES = "cloister.services"


class McpEndpoint:
    """Runs the SDK's session manager in a task of its own, from the first request on. A context manager."""

    def __init__(self) -> None:
        self._starting = asyncio.Lock()
        self._manager: StreamableHTTPSessionManager | None = None
        self._running: asyncio.Task[None] | None = None

    def app(self, services: Services) -> ASGIApp:
        """Return the ASGI app that answers one request with these services."""

        async def handle(scope: Any, receive: Any, send: Any) -> None:
            await (await self._start()).handle_request({**scope, _SERVICES: services}, receive, send)

        return handle

    async def _start(self) -> "StreamableHTTPSessionManager":
        async with self._starting:
            if self._manager is None:
                manager = await asyncio.to_thread(_create_manager)
                is_running = asyncio.Event()
                self._running = asyncio.create_task(_run(manager, is_running), name="mcp")
                await is_running.wait()
                self._manager = manager
            return self._manager

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running


async def _run(manager: "StreamableHTTPSessionManager", is_running: asyncio.Event) -> None:
    """Run the manager in this task, so that its task group does not belong to a request."""
    async with manager.run():
        is_running.set()
        await asyncio.Event().wait()


def _create_manager() -> "StreamableHTTPSessionManager":
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp_types import CallToolResult

    from server.api.mcp.session import failure, tool_result, tool_server

    async def call(name: str, arguments: Mapping[str, Any], request: Any) -> CallToolResult:
        try:
            return tool_result(await tools.call(name, arguments, request.scope[_SERVICES], str(request.base_url)))
        except Exception as error:  # the calling model reads it as the result
            return failure(problem_of(error).detail.message)

    return StreamableHTTPSessionManager(tool_server(call), json_response=True, stateless=True)
