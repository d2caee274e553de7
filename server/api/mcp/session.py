"""The tools as a server of the official SDK, which implements all versions of the protocol.

Import this module only when it is needed: the SDK takes half a second and 38 MB.
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
    """Return a server that hands each call to `call`: the name of a tool that exists, its arguments, and the HTTP
    request if there is one."""
    logging.getLogger("mcp").setLevel(logging.ERROR)  # its warnings contain what clients sent
    tool_list = mcp_types.ListToolsResult(tools=[_mcp_tool(tool) for tool in TOOLS])

    async def list_tools(*_: object) -> mcp_types.ListToolsResult:
        return tool_list

    async def call_tool(context: Any, params: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        if params.name not in BY_NAME:
            raise MCPError(mcp_types.INVALID_PARAMS, f"Unknown tool {params.name!r}; use one of: {', '.join(BY_NAME)}.")
        return await call(params.name, params.arguments or {}, context.request)

    return Server(
        "cloister",
        version=version("cloister"),
        title="Cloister",
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _mcp_tool(tool: McpTool) -> mcp_types.Tool:
    return mcp_types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=_schema(tool.arguments),
        output_schema=_schema(tool.result),
        annotations=mcp_types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


def _schema(type: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON schema with an object at its root, as the protocol requires."""
    _, components = msgspec.json.schema_components([type], ref_template="#/$defs/{name}")
    root = components.pop(type.__name__)
    return {**root, "$defs": components} if components else root


def tool_result(result: msgspec.Struct) -> mcp_types.CallToolResult:
    text = mcp_types.TextContent(text=msgspec.json.encode(result).decode())
    return mcp_types.CallToolResult(content=[text], structured_content=msgspec.to_builtins(result))


def failure(message: str) -> mcp_types.CallToolResult:
    """Return an error that the calling model can read."""
    return mcp_types.CallToolResult(content=[mcp_types.TextContent(text=message)], is_error=True)
