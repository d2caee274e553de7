"""GET /health: whether a question can be answered now."""

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec

from server.protocol.health import Health, Unhealthy
from server.services import Services

_RETRY_S = 2


class HealthController(Controller):
    @get(
        ["/health", "/v1/health"],
        operation_id="health",
        responses={200: ResponseSpec(Health), 503: ResponseSpec(Unhealthy, description="No question can be answered")},
    )
    async def health(self, services: NamedDependency[Services]) -> Response[Health | Unhealthy]:
        """200 when answers can be given; else 503 with `Retry-After`. Either with the state of every process.

        The `error` object is llama-server's, which its clients wait on.
        """
        processes = {process.name: process.state for process in services.processes}
        if services.can_answer:
            return Response(Health(processes), media_type=MediaType.JSON)
        headers = {"Retry-After": str(_RETRY_S)}
        return Response(Unhealthy(processes), status_code=503, media_type=MediaType.JSON, headers=headers)
