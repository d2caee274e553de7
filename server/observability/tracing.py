"""Spans for OpenTelemetry: requests, the stages of their searches, and how long a prompt took. Off unless it is asked
for, and then to an exporter that the user installed and names. Nothing of content: operations, models, figures.

Names of attributes are those of OpenTelemetry's semantic conventions where there are such.
"""

import contextlib
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from server.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXPORTERS = "opentelemetry_traces_exporter"  # the group under which packages offer theirs


class Request(Protocol):
    """Of a request that is being answered."""

    def replied(self, operation: str, status: int) -> None: ...


class Tracing(Protocol):
    def request(self, method: str) -> contextlib.AbstractContextManager[Request]:
        """Around all that is done for it."""

    def past(self, name: str, took_s: float, **figures: str | int) -> None:
        """Something that was done just now, within the request of this task."""


class NoTracing:
    """What there is by default."""

    @contextlib.contextmanager
    def request(self, method: str) -> Iterator[Request]:
        yield _UNSEEN

    def past(self, name: str, took_s: float, **figures: str | int) -> None:
        pass


class _Unseen:
    def replied(self, operation: str, status: int) -> None:
        pass


_UNSEEN = _Unseen()


class SpanTracing:
    """Over a provider of spans, which is its owner's to shut down."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("cloister")

    @contextlib.contextmanager
    def request(self, method: str) -> Iterator[Request]:
        from opentelemetry.trace import SpanKind

        attributes = {"http.request.method": method}
        with self._tracer.start_as_current_span(
            method,
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # what it says may be content
            set_status_on_exception=False,
        ) as span:
            yield _Seen(span)

    def past(self, name: str, took_s: float, **figures: str | int) -> None:
        now = time.time_ns()
        attributes = {key.replace("__", "."): value for key, value in figures.items()}
        self._tracer.start_span(name, start_time=now - round(took_s * 1e9), attributes=attributes).end(now)


class _Seen:
    def __init__(self, span: Any) -> None:
        self._span = span

    def replied(self, operation: str, status: int) -> None:
        self._span.update_name(operation or "no route")
        self._span.set_attribute("http.response.status_code", status)


@contextlib.contextmanager
def open_tracing(exporter: str) -> Iterator[Tracing]:
    """To the exporter of that name, "" for none. What is left is sent when this is left. Raises `SettingsError`."""
    if not exporter:
        yield NoTracing()
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SettingsError("tracing", "OpenTelemetry is not installed: pip install 'cloister[tracing]'") from None
    offered = {each.name: each for each in entry_points(group=_EXPORTERS)}
    if exporter not in offered:
        known = ", ".join(sorted(offered)) or "none"
        raise SettingsError("tracing", f"no exporter {exporter!r} is installed; there are: {known}")
    provider = TracerProvider(resource=Resource.create({"service.name": "cloister"}))
    provider.add_span_processor(BatchSpanProcessor(offered[exporter].load()()))
    try:
        yield SpanTracing(provider)
    finally:
        provider.shutdown()
