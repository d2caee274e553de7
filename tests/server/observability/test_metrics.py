"""GET /metrics: counters and gauges, whose labels no client can choose."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families

from index.ingest.store import open_document_store
from index.storage.records import FileStat
from index.types import Chunk, Collection
from server.observability.metrics import Metrics
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

Figures = dict[tuple[str, tuple[str, ...]], float]  # by name and labels' values


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    writer = open_document_store(tmp_path)
    ids = writer.configure([Collection("handbook", tmp_path)])
    writer.replace(ids["handbook"], "a.md", FileStat(1, 1), "hash", None, [Chunk("one", (), 0, 3, 1, 1)], None)
    writer.close()
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as client:
        yield client


def figures(page: str) -> Figures:
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {(sample.name, tuple(sample.labels.values())): sample.value for sample in samples}


def test_replies_are_counted_by_route_and_never_by_path(client: TestClient[Any]) -> None:
    for _ in range(3):
        client.get("/v1/models")
    client.get("/v1/models/secret-name")
    client.get("/secret-path")
    page = client.get("/metrics").text
    samples_by_name = figures(page)
    assert samples_by_name["cloister_http_requests_total", ("listModels", "200")] == 3
    assert samples_by_name["cloister_http_requests_total", ("", "404")] == 1
    assert samples_by_name["cloister_http_request_seconds_count", ("listModels",)] == 3
    assert "secret" not in page


def test_metrics_have_the_state_of_processes_models_and_index(client: TestClient[Any]) -> None:
    samples_by_name = figures(client.get("/metrics").text)
    assert samples_by_name["cloister_process_ready", ("encoder",)] == 1
    assert (
        samples_by_name["cloister_process_ready", ("indexer",)],
        samples_by_name["cloister_process_restarts_total", ("indexer",)],
    ) == (
        0,
        2,
    )
    assert (samples_by_name["cloister_model_bytes", ("played",)], samples_by_name["cloister_slots", ("played",)]) == (
        3_000_000,
        4,
    )
    assert (
        samples_by_name["cloister_index_documents", ("handbook",)]
        == samples_by_name["cloister_index_chunks", ("handbook",)]
        == 1
    )


def test_both_formats_are_valid(client: TestClient[Any]) -> None:
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    open_metrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_open_metrics(open_metrics.text)}
    assert {"cloister_http_requests", "cloister_index_lag_seconds", "cloister_requests_waiting"} <= names


def test_counters_of_a_model_continue_after_its_restart() -> None:
    metrics = Metrics()
    for num_cached in (0, 40):
        meter = metrics.meter("small")
        meter.observe_first_token(0.2, 50, num_cached)
        meter.observe_tokens(1)
        meter.observe_interval(0.01)
        meter.observe_tokens(3)
    samples = {
        s.name: s.value for family in metrics.collect() for s in family.samples if s.labels == {"model": "small"}
    }
    assert samples["cloister_prompt_tokens_total"] == 100
    assert samples["cloister_cached_prompt_tokens_total"] == 40
    assert samples["cloister_generated_tokens_total"] == 8
    assert samples["cloister_first_token_seconds_sum"] == pytest.approx(0.4)
    assert samples["cloister_inter_token_seconds_count"] == 2
