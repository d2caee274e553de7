"""Spans of a request and its searches and prompts, exported to OpenTelemetry's own exporter in memory."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.params import FromPath
from litestar.testing import TestClient

from server.errors import SettingsError
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.observability.middleware import RequestMiddleware
from server.observability.tracing import NoTracing, SpanTracing, open_tracing
from server.storage.local.audit import AuditFolder

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra `tracing`")
SECRET = "canary-in-a-path"


def spans_of(path: str) -> list[Any]:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    metrics = Metrics(SpanTracing(provider))

    @get("/found/{name:str}", operation_id="findIt")
    async def find(name: FromPath[str]) -> str:
        metrics.observe_search("dense", 0.25)
        await asyncio.to_thread(metrics.meter("reader").observe_first_token, 0.5, 700, 600)
        return name

    app = Litestar([find], openapi_config=None)
    app.asgi_handler = RequestMiddleware(app.asgi_handler, metrics, AuditLog(AuditFolder(Path()), "off"))
    with TestClient(app) as client:
        client.get(path)
    provider.shutdown()
    return list(exporter.get_finished_spans())


def test_spans_of_a_request_s_work_are_its_children() -> None:
    search, prompt, request = spans_of(f"/found/{SECRET}?{SECRET}")
    assert (search.name, prompt.name, request.name) == ("search dense", "read prompt", "findIt")
    assert search.parent.span_id == prompt.parent.span_id == request.context.span_id
    assert round((search.end_time - search.start_time) / 1e9, 6) == 0.25
    assert dict(prompt.attributes) == {
        "gen_ai.request.model": "reader",
        "gen_ai.usage.input_tokens": 700,
        "cloister.cached_tokens": 600,
    }
    assert dict(request.attributes) == {"http.request.method": "GET", "http.response.status_code": 200}


def test_spans_hold_no_text_of_clients() -> None:
    for path in (f"/found/{SECRET}", f"/{SECRET}"):
        assert not [span for span in spans_of(path) if SECRET in span.to_json()]
    assert spans_of(f"/{SECRET}")[0].name == "no route"


def test_spans_hold_no_error_message() -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.raises(LookupError), SpanTracing(provider).request("GET"):
        raise LookupError(SECRET)
    (span,) = exporter.get_finished_spans()
    assert SECRET not in span.to_json()


def test_tracing_is_off_without_an_exporter() -> None:
    with open_tracing("") as tracing:
        assert isinstance(tracing, NoTracing)
    with open_tracing("console") as tracing:
        assert isinstance(tracing, SpanTracing)


def test_a_missing_exporter_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"no exporter .elsewhere. is installed; installed are: .*console"):
        open_tracing("elsewhere").__enter__()
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match="pip install"):
        open_tracing("console").__enter__()
