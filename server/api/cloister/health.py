"""GET /health, /livez and /readyz: whether a question can be answered now."""

from typing import Any

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec

from server.access.principal import ANONYMOUS
from server.api.cloister.health_wire import HealthReply, LivenessReply, ReadinessReply, UnhealthyReply
from server.resources.supervisor import Supervisor
from server.services import Services

_RETRY = {"Retry-After": "2"}  # seconds


class HealthController(Controller):
    @get(
        ["/health", "/v1/health"],
        operation_id="health",
        responses={
            200: ResponseSpec(HealthReply),
            503: ResponseSpec(UnhealthyReply, description="No question can be answered"),
        },
    )
    async def health(self, services: NamedDependency[Services]) -> Response[HealthReply | UnhealthyReply]:
        """200 when answers can be given; else 503 with `Retry-After`. Either with the state of every process.

        The `error` object is llama-server's, which its clients wait on.
        """
        processes = {process.name: _state(process, services) for process in services.processes}
        if services.readiness.can_answer:
            return Response(HealthReply(processes), media_type=MediaType.JSON)
        return Response(UnhealthyReply(processes), status_code=503, media_type=MediaType.JSON, headers=_RETRY)

    @get("/livez", operation_id="isAlive")
    async def live(self) -> LivenessReply:
        """Says that the server handles requests, and looks at nothing else."""
        return LivenessReply()

    @get(
        "/readyz",
        operation_id="isReady",
        responses={200: ResponseSpec(ReadinessReply), 503: ResponseSpec(ReadinessReply, description="Not ready")},
    )
    async def ready(self, services: NamedDependency[Services]) -> Response[ReadinessReply]:
        """By searching for something, once in five seconds at most."""
        if await services.readiness.look():
            return Response(ReadinessReply("ready"), media_type=MediaType.JSON)
        return Response(ReadinessReply("unready"), status_code=503, media_type=MediaType.JSON, headers=_RETRY)


def _state(process: Supervisor[Any], services: Services) -> str:
    """Why it is not ready may name files, which is not for everybody."""
    if services.principal is ANONYMOUS:
        return "ready" if process.is_ready else "unavailable"
    return process.state
