"""MCP through the official SDK's client, over HTTP and over standard input and output, in every protocol version."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import mcp_types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from real_server import Server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]


def stdio(url: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "server", "mcp", "--url", url], env={"PYTHONPATH": str(ROOT)}
    )


@asynccontextmanager
async def connect(server: Server, transport: str, mode: str = "auto") -> AsyncIterator[Client]:
    if transport == "stdio":
        async with Client(stdio(server.url), mode=mode) as client:
            yield client
    else:
        async with (
            httpx2.AsyncClient(trust_env=False, timeout=30) as http,
            Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode) as client,
        ):
            yield client


def talk(server: Server, transport: str, say: Callable[[Client], Awaitable[None]], mode: str = "auto") -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), connect(server, transport, mode) as client:
            await say(client)

    asyncio.run(scenario())


def structured_content(result: mcp_types.CallToolResult) -> Any:
    """Return the structured content, which is the same as the text."""
    assert not result.is_error, result.content
    (content,) = result.content
    assert isinstance(content, mcp_types.TextContent)
    assert json.loads(content.text) == result.structured_content
    return result.structured_content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_search_then_fetch(server: Server, transport: str, mode: str) -> None:
    async def say(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["search", "fetch", "list_collections"]
        assert all(tool.input_schema["type"] == tool.output_schema["type"] == "object" for tool in tools)
        assert all(tool.annotations.read_only_hint for tool in tools)
        hits = structured_content(await client.call_tool("search", {"query": "How long is parental leave?"}))["results"]
        assert (hits[0]["collection"], hits[0]["path"]) == ("handbook", "leave.md")
        assert hits[0]["title"] == "handbook/leave.md › Leave › Parental leave"
        assert "sixteen weeks" in hits[0]["text"]
        assert hits[0]["url"].startswith(f"{server.url}/documents/")
        document = structured_content(await client.call_tool("fetch", {"id": hits[0]["id"]}))
        assert "sixteen weeks" in document["text"]
        assert "before ten in the morning" in document["text"]  # the whole document, not the passage alone
        assert document["metadata"]["next"] is None
        with server.client() as http:
            assert http.get(hits[0]["url"]).status_code == http.get(document["url"]).status_code == 200
        collections = structured_content(await client.call_tool("list_collections", {}))["collections"]
        assert [(each["name"], each["documents"]) for each in collections] == [("handbook", 3)]

    talk(server, transport, say, mode)


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_errors_are_returned_to_the_calling_model(server: Server, transport: str) -> None:
    async def say(client: Client) -> None:
        for name, arguments, expected in (
            ("search", {}, "query"),
            ("search", {"query": "x", "limit": 0}, "limit"),
            ("search", {"query": "x", "collections": ["gone"]}, "no collection 'gone'; there are: handbook"),
            ("fetch", {"id": "leave.md"}, "is not a valid id"),
            ("fetch", {"id": "999999"}, "document 999999"),
            ("fetch", {"id": "1-999999"}, "search again"),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error, (name, arguments)
            assert expected in result.content[0].text
        with pytest.raises(MCPError, match="search, fetch, list_collections"):
            await client.session.send_request(
                mcp_types.CallToolRequest(params=mcp_types.CallToolRequestParams(name="remove")),
                mcp_types.CallToolResult,
            )
        assert structured_content(await client.call_tool("search", {"query": "keys", "limit": 1}))["results"]

    talk(server, transport, say)


def test_a_long_document_is_read_in_parts(server: Server) -> None:
    lines = [f"## Part {i}\n\nParagraph number {i} is about the zeppelin of {1000 + i}.\n" for i in range(450)]
    (server.docs / "long.md").write_text("\n".join(lines))

    async def say(client: Client) -> None:
        async with asyncio.timeout(30):
            while not (hits := await zeppelins(client)):
                await asyncio.sleep(0.1)
        numbers: list[int] = []
        next_id: str | None = hits[0]["id"].partition("-")[0]
        while next_id:
            document = structured_content(await client.call_tool("fetch", {"id": next_id}))
            numbers += map(int, re.findall(r"Paragraph number (\d+)", document["text"]))
            next_id = document["metadata"]["next"]
        assert numbers == list(range(450))
        middle = next(each for each in hits if each["collection"] == "handbook")
        assert middle["text"] in structured_content(await client.call_tool("fetch", {"id": middle["id"]}))["text"]

    async def zeppelins(client: Client) -> list[Any]:
        results = structured_content(await client.call_tool("search", {"query": "zeppelin of 1200"}))["results"]
        return [each for each in results if each["path"] == "long.md"]

    try:
        talk(server, "http", say)
    finally:
        (server.docs / "long.md").unlink()
        wait_until(lambda: server.status()["documents"] == 3, what="the index without it")


def test_only_post_is_allowed(server: Server) -> None:
    with server.client() as http:
        for method in ("GET", "DELETE", "PUT"):
            response = http.request(method, "/mcp", headers={"Accept": "text/event-stream"})
            assert response.status_code == 405
            assert response.json()["error"]["type"] == "invalid_request_error"
        assert http.post("/mcp", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
        assert http.get("/health").status_code == 200


def test_without_a_running_server_the_error_says_how_to_start_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def scenario() -> None:
            async with asyncio.timeout(60), Client(stdio(url)) as client:
                assert len((await client.list_tools()).tools) == 3
                result = await client.call_tool("search", {"query": "anything"})
                assert result.is_error
                assert result.content[0].text == f"Cloister does not answer at {url}. Start it: cloister serve"

        asyncio.run(scenario())
