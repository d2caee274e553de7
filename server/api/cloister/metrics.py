"""GET /metrics, for Prometheus."""

from collections.abc import Iterable, Iterator
from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from server.observability.gauges import gauges_of
from server.services import Services


class MetricsController(Controller):
    @get("/metrics", operation_id="metrics", media_type="text/plain")
    async def show(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Response[bytes]:
        """In the text format, or OpenMetrics if that is asked for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        page = encode(_MetricsRegistry([*services.metrics.collect(), *await gauges_of(services)]))
        return Response(page, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


class _MetricsRegistry:
    """Looks like a registry to what writes the page."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)
