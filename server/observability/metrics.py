"""Counters and histograms for Prometheus. They contain names of models, operations and stages, no content."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

from server.observability.tracing import NoTracing, Tracing

_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_STAGE_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """Counts events, and records those of a request as spans of its trace too. `gauges.py` has the current state."""

    def __init__(self, tracing: Tracing | None = None) -> None:
        self.tracing: Tracing = tracing or NoTracing()
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"cloister_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, label: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"cloister_{name}", text, (label,), buckets=buckets, registry=registry)

        self._requests = counter("http_requests", "HTTP replies by operation and status.", "operation", "status")
        text = "Seconds from a request to the first byte of its reply."
        self._request_s = histogram("http_request_seconds", text, "operation", _REQUEST_S)
        self._prompt = counter("prompt_tokens", "Prompt tokens.", "model")
        text = "Prompt tokens found in the prefix cache (cache hits)."
        self._cached = counter("cached_prompt_tokens", text, "model")
        self._generated = counter("generated_tokens", "Generated tokens.", "model")
        self._first_s = histogram("first_token_seconds", "Time to first token, in seconds.", "model", _REQUEST_S)
        text = "Time between tokens of a reply, in seconds."
        self._between_s = histogram("inter_token_seconds", text, "model", _TOKEN_S)
        self._search_s = histogram("search_seconds", "Search latency by stage, in seconds.", "stage", _STAGE_S)

    def observe_reply(self, operation: str, status: int, took_s: float) -> None:
        """Count a reply. `operation` is the handler's id, "" for none; clients could make up any number of paths."""
        self._requests.labels(operation, str(status)).inc()
        self._request_s.labels(operation).observe(took_s)

    def observe_search(self, stage: str, took_s: float) -> None:
        self._search_s.labels(stage).observe(took_s)
        self.tracing.record_span(f"search {stage}", took_s)

    def meter(self, model: str) -> "ModelMeter":
        return ModelMeter(
            self._prompt.labels(model),
            self._cached.labels(model),
            self._generated.labels(model),
            self._first_s.labels(model),
            self._between_s.labels(model),
            self.tracing,
            model,
        )

    def collect(self) -> Iterator[Metric]:
        """Return all metrics, as a registry does."""
        return iter(self._registry.collect())


class ModelMeter:
    """Counts the tokens of one model over all restarts of its engine. Implements `models.llm.engine.meter.Meter`."""

    def __init__(
        self,
        prompt: Counter,
        cached: Counter,
        generated: Counter,
        first_s: Histogram,
        between_s: Histogram,
        tracing: Tracing,
        model: str,
    ) -> None:
        self._prompt = prompt
        self._cached = cached
        self._generated = generated
        self._first_s = first_s
        self._between_s = between_s
        self._tracing, self._model = tracing, model

    def observe_first_token(self, wait_s: float, num_prompt: int, num_cached: int) -> None:
        self._prompt.inc(num_prompt)
        self._cached.inc(num_cached)
        self._first_s.observe(wait_s)
        self._tracing.record_span(
            "read prompt",
            wait_s,
            gen_ai__request__model=self._model,
            gen_ai__usage__input_tokens=num_prompt,
            cloister__cached_tokens=num_cached,
        )

    def observe_tokens(self, num_tokens: int) -> None:
        self._generated.inc(num_tokens)

    def observe_interval(self, wait_s: float) -> None:
        self._between_s.observe(wait_s)
