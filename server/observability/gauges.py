"""The state of the moment, as figures for Prometheus: made when they are asked for, as far as whoever asks may see."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from index.ingest.progress import Progress
from index.storage.records import CollectionStatus
from server.resources.supervisor import Supervisor
from server.services import Services


async def gauges_of(services: Services) -> list[Metric]:
    progress = services.indexer_control.progress
    collections = await asyncio.to_thread(services.catalog.status)
    return [*_processes(services), *_models(services), *_index(progress, collections)]


def _processes(services: Services) -> Iterator[Metric]:
    started = GaugeMetricFamily("cloister_start_time_seconds", "When the server started, Unix time.")
    started.add_metric([], services.started_at)
    ready = GaugeMetricFamily("cloister_process_ready", "1 while a process can work.", labels=["process"])
    restarts = CounterMetricFamily(
        "cloister_process_restarts", "How often a process was started again.", labels=["process"]
    )
    processes: dict[str, Supervisor[Any]] = {"encoder": services.encoder, "indexer": services.indexer}
    processes |= {f"engine {model.name}": model.supervisor for model in services.pool if model.supervisor}
    for name, process in processes.items():
        ready.add_metric([name], process.is_ready)
        restarts.add_metric([name], process.num_restarts)
    yield from (started, ready, restarts)


def _models(services: Services) -> Iterator[Metric]:
    loaded = GaugeMetricFamily("cloister_model_loaded", "1 while a model is in memory.", labels=["model"])
    size = GaugeMetricFamily("cloister_model_bytes", "Memory a model takes when it is loaded.", labels=["model"])
    running = GaugeMetricFamily("cloister_requests_running", "Answers under way.", labels=["model"])
    waiting = GaugeMetricFamily("cloister_requests_waiting", "Answers that wait for a slot.", labels=["model"])
    slots = GaugeMetricFamily("cloister_slots", "Answers that can be under way at once.", labels=["model"])
    for model in services.pool:
        engine = model.supervisor.current() if model.supervisor and model.supervisor.is_ready else None
        num_pending = engine.num_pending if engine else 0
        num_slots = model.params.n_slots
        loaded.add_metric([model.name], model.is_loaded)
        size.add_metric([model.name], model.size)
        running.add_metric([model.name], min(num_pending, num_slots))
        waiting.add_metric([model.name], max(num_pending - num_slots, 0))
        slots.add_metric([model.name], num_slots)
    yield from (loaded, size, running, waiting, slots)


def _index(progress: Progress, collections: Sequence[CollectionStatus]) -> Iterator[Metric]:
    lag = GaugeMetricFamily("cloister_index_lag_seconds", "For how long the index has not been equal to the folders.")
    lag.add_metric([], progress.lag_s)
    yield lag
    for name, text, value in (
        ("documents", "Documents that can be found.", lambda each: each.documents),
        ("chunks", "Passages that can be found.", lambda each: each.chunks),
        ("pending", "Files that wait to be read.", lambda each: each.pending),
        ("failed", "Files that cannot be read.", lambda each: len(each.failed)),
        ("missing", "Documents that are kept although their files are gone.", lambda each: each.missing),
    ):
        gauge = GaugeMetricFamily(f"cloister_index_{name}", text, labels=["collection"])
        for each in collections:
            gauge.add_metric([each.name], value(each))
        yield gauge
