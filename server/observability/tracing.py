"""OpenTelemetry spans of requests, of the stages of a search and of prompt processing.

Off by default; the setting `tracing` names an installed exporter. Spans contain operations, models and numbers, no
content. Attribute names follow OpenTelemetry's semantic conventions where they have one.
"""

import contextlib
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from server.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXPORTERS = "opentelemetry_traces_exporter"  # the entry point group of packages with exporters


class RequestTrace(Protocol):
    """The trace of a request."""

    def record_reply(self, operation: str, status: int) -> None: ...


class Tracing(Protocol):
    def request(self, method: str) -> contextlib.AbstractContextManager[RequestTrace]:
        """Trace everything inside as one request."""

    def record_span(self, name: str, took_s: float, **figures: str | int) -> None:
        """Record a span that ended just now, as a part of the request that this task handles."""


class NoTracing:
    """Records nothing; the default."""

    @contextlib.contextmanager
    def request(self, method: str) -> Iterator[RequestTrace]:
        yield _NO_TRACE

    def record_span(self, name: str, took_s: float, **figures: str | int) -> None:
        pass


class _NoRequestTrace:
    def record_reply(self, operation: str, status: int) -> None:
        pass


_NO_TRACE = _NoRequestTrace()


class SpanTracing:
    """Records spans with a provider, which the caller shuts down."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("cloister")

    @contextlib.contextmanager
    def request(self, method: str) -> Iterator[RequestTrace]:
        from opentelemetry.trace import SpanKind

        attributes = {"http.request.method": method}
        with self._tracer.start_as_current_span(
            method,
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # the message may hold content
            set_status_on_exception=False,
        ) as span:
            yield _SpanRequestTrace(span)

    def record_span(self, name: str, took_s: float, **figures: str | int) -> None:
        now = time.time_ns()
        attributes = {key.replace("__", "."): value for key, value in figures.items()}
        self._tracer.start_span(name, start_time=now - round(took_s * 1e9), attributes=attributes).end(now)


class _SpanRequestTrace:
    def __init__(self, span: Any) -> None:
        self._span = span

    def record_reply(self, operation: str, status: int) -> None:
        self._span.update_name(operation or "no route")
        self._span.set_attribute("http.response.status_code", status)


@contextlib.contextmanager
def open_tracing(exporter: str) -> Iterator[Tracing]:
    """Yield a tracing to the named exporter, "" for none, and flush it at the end. Raises `SettingsError`."""
    if not exporter:
        yield NoTracing()
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SettingsError("tracing", "OpenTelemetry is not installed: pip install 'cloister[tracing]'") from None
    exporters = {each.name: each for each in entry_points(group=_EXPORTERS)}
    if exporter not in exporters:
        names = ", ".join(sorted(exporters)) or "none"
        raise SettingsError("tracing", f"no exporter {exporter!r} is installed; installed are: {names}")
    provider = TracerProvider(resource=Resource.create({"service.name": "cloister"}))
    provider.add_span_processor(BatchSpanProcessor(exporters[exporter].load()()))
    try:
        yield SpanTracing(provider)
    finally:
        provider.shutdown()
