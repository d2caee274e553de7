"""GET /metrics for Prometheus."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from server.observability.gauges import index_gauges, model_gauges, process_gauges, server_gauge
from server.services import Services


class MetricsController(Controller):
    @get("/metrics", operation_id="metrics", media_type="text/plain")
    async def show(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Response[bytes]:
        """Return the metrics in the text format, or in OpenMetrics where `Accept` asks for it."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        page = encode(_MetricsRegistry([*services.metrics.collect(), *await _gauges(services)]))
        return Response(page, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


async def _gauges(services: Services) -> list[Metric]:
    statuses = await asyncio.to_thread(services.catalog.status)
    return [
        server_gauge(services.started_at),
        *process_gauges({"encoder": services.encoder, "indexer": services.indexer}, services.pool),
        *model_gauges(list(services.pool)),
        *index_gauges(services.indexer_control.progress.lag_s, statuses),
    ]


class _MetricsRegistry:
    """A registry of these metrics, as far as an exposition encoder needs one."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)
