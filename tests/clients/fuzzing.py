"""Valid and invalid requests generated from the OpenAPI document, and checks of every reply."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = {"/v1/index/events"}
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
REFUSED = ("audio", "modalities", "web_search_options", "grammar", "functions", "logit_bias", "top_logprobs")
ANSWERING = ("completion", "infill", "messages", "chat", "generate")
LONGEST = 3  # tokens of an answer, and answers
TIMEOUT_S = 60


def operations(url: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{url}/v1/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path not in ENDLESS:
            yield operation


def fuzz(operations: Iterable[Any], num_cases: int, number: int) -> Counter[str]:
    """Send up to `num_cases` requests for each operation; return the number of replies by operation and status.

    Fails with the smallest case that has a wrong reply.
    """
    counts = Counter[str]()
    for operation in operations:
        modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if can_be_invalid(operation) else [])]
        for mode in modes:
            with contextlib.suppress(Unsatisfiable):
                _fuzz(operation, mode, num_cases // 2, number, counts)
    return counts


def can_be_invalid(operation: Any) -> bool:
    """Return whether any request can be invalid: one without a body, whose path takes any text, cannot."""
    texts_in_path = [each.definition["schema"] == {"type": "string"} for each in operation.path_parameters]
    return bool(operation.body or operation.query or operation.headers) or not all(texts_in_path)


def _fuzz(operation: Any, mode: GenerationMode, num_cases: int, number: int, counts: Counter[str]) -> None:
    @seed(number)
    @settings(
        max_examples=num_cases,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if isinstance(case.body, dict):
            _shorten(case.body, operation.path)
            if mode is GenerationMode.POSITIVE:
                _open(case.body)
        response = case.call(timeout=TIMEOUT_S)
        counts[f"{operation.method.upper()} {operation.path} {response.status_code}"] += 1
        case.validate_response(response, checks=CHECKS)

    check()


def _shorten(body: dict[str, Any], path: str) -> None:
    """Limit the length of answers, which would else fill the context."""
    for limit in LIMITS:
        if isinstance(body.get(limit), int) and body[limit] > LONGEST:
            body[limit] = LONGEST
    if any(name in path for name in ANSWERING):
        for limit in ("max_tokens", "n_predict"):
            if body.get(limit) is None:
                body[limit] = LONGEST
    for name in ("n", "n_cmpl", "best_of"):
        if isinstance(body.get(name), int | float) and body[name] > LONGEST:
            body[name] = LONGEST


def _open(body: dict[str, Any]) -> None:
    """Remove unknown names and fields that are refused by design, so that the rest of the request is tested."""
    for name in ("model", "collections", "collection", *REFUSED):
        body.pop(name, None)
    if isinstance(body.get("rag"), dict):
        body["rag"].pop("collections", None)
