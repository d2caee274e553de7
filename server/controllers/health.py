"""GET /health: whether a question can be answered now."""

from typing import Any

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency

from server.services import Services

_RETRY_S = 2


class HealthController(Controller):
    @get(["/health", "/v1/health"], operation_id="health")
    async def health(self, services: NamedDependency[Services]) -> Response[dict[str, Any]]:
        """200 when answers can be given; else 503 with `Retry-After`. Either with the state of every process.

        The `error` object is llama-server's, which its clients wait on.
        """
        processes = {process.name: process.state for process in services.processes}
        if services.can_answer:
            return Response({"status": "ok", "processes": processes}, media_type=MediaType.JSON)
        error = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
        body = {"status": "unavailable", "processes": processes, "error": error}
        return Response(body, status_code=503, media_type=MediaType.JSON, headers={"Retry-After": str(_RETRY_S)})
