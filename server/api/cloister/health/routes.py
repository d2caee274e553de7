"""GET /health, /livez and /readyz: whether the server can answer a question now."""

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec

from server.access.principal import ANONYMOUS
from server.api.cloister.health.wire import HealthReply, LivenessReply, ReadinessReply, UnhealthyReply
from server.services import ProcessStatus, Services

_RETRY_HEADERS = {"Retry-After": "2"}  # seconds


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
        """Return the state of every process: with 200 if questions can be answered, else with 503 and `Retry-After`.

        The `error` object is llama-server's, because its clients look for it.
        """
        processes = {name: _state(process, services) for name, process in services.processes.items()}
        if services.readiness.can_answer:
            return Response(HealthReply(processes), media_type=MediaType.JSON)
        return Response(UnhealthyReply(processes), status_code=503, media_type=MediaType.JSON, headers=_RETRY_HEADERS)

    @get("/livez", operation_id="isAlive")
    async def live(self) -> LivenessReply:
        """Say that the server handles requests. Nothing else is checked."""
        return LivenessReply()

    @get(
        "/readyz",
        operation_id="isReady",
        responses={200: ResponseSpec(ReadinessReply), 503: ResponseSpec(ReadinessReply, description="Not ready")},
    )
    async def ready(self, services: NamedDependency[Services]) -> Response[ReadinessReply]:
        """Check with a search, at most once in five seconds, whether questions can be answered."""
        if await services.readiness.check():
            return Response(ReadinessReply("ready"), media_type=MediaType.JSON)
        return Response(ReadinessReply("unready"), status_code=503, media_type=MediaType.JSON, headers=_RETRY_HEADERS)


def _state(process: ProcessStatus, services: Services) -> str:
    """Return the state of a process; to anonymous clients without its reason, which may name files."""
    if services.principal is ANONYMOUS:
        return "ready" if process.is_ready else "unavailable"
    return process.state
