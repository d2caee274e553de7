"""The Model Context Protocol over standard input and output, forwarded to a running server over HTTP."""

from collections.abc import Mapping
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from server.api.mcp.session import failure, tool_server

_TIMEOUT_S = 60.0


async def serve(address: str, key: str | None = None) -> None:
    """Serve until the input ends. `address` is the running server's, such as `http://127.0.0.1:8000`."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def call(name: str, arguments: Mapping[str, Any], _: object) -> CallToolResult:
        problem = ""
        try:
            async with (
                httpx2.AsyncClient(trust_env=False, timeout=_TIMEOUT_S, headers=headers) as http,
                Client(streamable_http_client(f"{address}/mcp", http_client=http)) as client,
            ):
                return await client.call_tool(name, dict(arguments))
        except* (httpx2.TransportError, OSError):
            problem = f"Cloister does not answer at {address}. Start it: cloister serve"
        except* (httpx2.HTTPError, MCPError) as refusal:
            problem = f"Cloister at {address} refuses: {_reason(refusal)}. Where it wants a key: --key-file"
        return failure(problem)

    server = tool_server(call)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _reason(error.exceptions[0])
    return error.message if isinstance(error, MCPError) else str(error)
