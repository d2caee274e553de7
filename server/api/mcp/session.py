"""The tools as a server of the official SDK, which speaks the protocol in all its versions.

Imported when somebody speaks it, for the SDK takes half a second and 38 MB.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

import mcp_types
import msgspec
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from server.api.mcp.tools import BY_NAME, TOOLS, McpTool

Call = Callable[[str, Mapping[str, Any], Any], Awaitable[mcp_types.CallToolResult]]

_INSTRUCTIONS = (
    "The user's own documents, indexed on the user's own machine. Search first, fetch what needs reading in full, "
    "and name the documents that an answer comes from."
)


def tool_server(call: Call) -> Server[Any]:
    """`call` takes a tool's name, which is known, its arguments, and the HTTP request, if it is one."""
    logging.getLogger("mcp").setLevel(logging.ERROR)  # it warns of what clients do, with what they sent
    listed = mcp_types.ListToolsResult(tools=[_told(tool) for tool in TOOLS])

    async def list_tools(*_: object) -> mcp_types.ListToolsResult:
        return listed

    async def call_tool(context: Any, asked: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        if asked.name not in BY_NAME:
            raise MCPError(
                mcp_types.INVALID_PARAMS, f"There is no tool {asked.name!r}; there are: {', '.join(BY_NAME)}."
            )
        return await call(asked.name, asked.arguments or {}, context.request)

    return Server(
        "cloister",
        version=version("cloister"),
        title="Cloister",
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _told(tool: McpTool) -> mcp_types.Tool:
    return mcp_types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=_schema(tool.arguments),
        output_schema=_schema(tool.result),
        annotations=mcp_types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


def _schema(type: type[msgspec.Struct]) -> dict[str, Any]:
    """With an object at its root, as the protocol wants it."""
    _, components = msgspec.json.schema_components([type], ref_template="#/$defs/{name}")
    root = components.pop(type.__name__)
    return {**root, "$defs": components} if components else root


def result_of(told: msgspec.Struct) -> mcp_types.CallToolResult:
    text = mcp_types.TextContent(text=msgspec.json.encode(told).decode())
    return mcp_types.CallToolResult(content=[text], structured_content=msgspec.to_builtins(told))


def failure(message: str) -> mcp_types.CallToolResult:
    """What the model that called is told."""
    return mcp_types.CallToolResult(content=[mcp_types.TextContent(text=message)], is_error=True)
