"""Gauges of the current state for Prometheus, computed for each request to /metrics from what its caller may see."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from index.storage.records import CollectionStatus
from server.resources.model_source import ModelSource
from server.resources.supervisor import Supervisor


def server_gauge(started_at: int) -> Metric:
    """`started_at` is in Unix seconds."""
    started = GaugeMetricFamily("cloister_start_time_seconds", "Time the server started, in Unix seconds.")
    started.add_metric([], started_at)
    return started


def process_gauges(processes: Mapping[str, Supervisor[Any]], models: Iterable[ModelSource]) -> Iterator[Metric]:
    ready = GaugeMetricFamily("cloister_process_ready", "1 while a process is ready.", labels=["process"])
    restarts = CounterMetricFamily("cloister_process_restarts", "Restarts of a process.", labels=["process"])
    for name, process in processes.items():
        ready.add_metric([name], process.is_ready)
        restarts.add_metric([name], process.num_restarts)
    for model in models:
        if model.num_restarts is not None:
            ready.add_metric([f"engine {model.name}"], model.is_ready)
            restarts.add_metric([f"engine {model.name}"], model.num_restarts)
    yield from (ready, restarts)


def model_gauges(models: Sequence[ModelSource]) -> Iterator[Metric]:
    loaded = GaugeMetricFamily("cloister_model_loaded", "1 while a model is in memory.", labels=["model"])
    size = GaugeMetricFamily("cloister_model_bytes", "Memory of a model while it is loaded.", labels=["model"])
    running = GaugeMetricFamily("cloister_requests_running", "Active requests.", labels=["model"])
    waiting = GaugeMetricFamily("cloister_requests_waiting", "Queued requests.", labels=["model"])
    slots = GaugeMetricFamily("cloister_slots", "Most requests that can be active at once.", labels=["model"])
    for model in models:
        num_pending, num_slots = model.num_pending, model.profile.num_slots
        loaded.add_metric([model.name], model.is_loaded)
        size.add_metric([model.name], model.memory_bytes)
        running.add_metric([model.name], min(num_pending, num_slots))
        waiting.add_metric([model.name], max(num_pending - num_slots, 0))
        slots.add_metric([model.name], num_slots)
    yield from (loaded, size, running, waiting, slots)


def index_gauges(lag_s: float, collections: Sequence[CollectionStatus]) -> Iterator[Metric]:
    """`lag_s`: seconds since the index was last up to date."""
    lag = GaugeMetricFamily("cloister_index_lag_seconds", "Seconds since the index was up to date with the folders.")
    lag.add_metric([], lag_s)
    yield lag
    for name, text, value in (
        ("documents", "Indexed documents.", lambda status: status.documents),
        ("chunks", "Indexed chunks.", lambda status: status.chunks),
        ("pending", "Queued files.", lambda status: status.pending),
        ("failed", "Failed files.", lambda status: len(status.failed)),
        ("missing", "Indexed documents whose files are missing.", lambda status: status.missing),
    ):
        gauge = GaugeMetricFamily(f"cloister_index_{name}", text, labels=["collection"])
        for status in collections:
            gauge.add_metric([status.name], value(status))
        yield gauge
