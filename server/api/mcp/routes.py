"""The route of the Model Context Protocol. The SDK reads and writes its bodies."""

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from server.access.keys import Role
from server.api.mcp.endpoint import McpEndpoint
from server.services import Services


class McpController(Controller):
    @post("/mcp", status_code=200, operation_id="speakMcp", opt={"role": Role.READ}, include_in_schema=False)
    async def speak(self, mcp: NamedDependency[McpEndpoint], services: NamedDependency[Services]) -> ASGIApp:
        return mcp.app(services)
