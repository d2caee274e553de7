"""The OpenAPI document names every route there is, and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from server.app import create_app
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.storage.local.audit import AuditFolder
from tests.server.fakes import ACCESS, no_folders


@pytest.fixture(scope="module")
def app() -> Litestar:
    return create_app(_open_nothing, ACCESS, Metrics(), AuditLog(AuditFolder(Path()), "off"), no_folders)


def _open_nothing() -> Any:
    raise AssertionError("the document needs no services")


@pytest.fixture(scope="module")
def document(app: Litestar) -> dict[str, Any]:
    response = TestClient(app).get("/v1/openapi.json")
    assert response.status_code == 200, response.text
    read: dict[str, Any] = response.json()
    return read


def routes_of(app: Litestar) -> set[tuple[str, str]]:
    return {
        (route.path_format, method.lower())
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path != "/v1/openapi.json"
        for method, (handler, _) in route.route_handler_map.items()
        if method not in ("OPTIONS", "HEAD") and handler.resolve_include_in_schema()
    }


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_the_document_lists_exactly_the_routes(app: Litestar, document: dict[str, Any]) -> None:
    assert {(path, method) for path, method, _ in operations(document)} == routes_of(app)
    assert len(routes_of(app)) > 10


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert {"createChatCompletion", "listModels", "retrieveModel", "search"} <= set(ids)


def test_every_reference_resolves_and_every_schema_is_used(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references == document["components"]["schemas"].keys()


def test_every_operation_has_an_error_schema(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert error["$ref"].startswith("#/components/schemas/"), (method, path)


def test_bounds_and_required_fields_are_those_that_are_enforced(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    temperature = schemas["ChatRequest"]["properties"]["temperature"]["anyOf"]
    assert temperature == [{"type": "number", "minimum": 0, "maximum": 2}, {"type": "null"}]
    assert schemas["ChatRequest"]["required"] == ["messages"]
    assert schemas["ErrorBody"]["required"] == ["error"]


def test_streams_have_the_content_type_of_events(document: dict[str, Any]) -> None:
    chat = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert chat.keys() == {"application/json", "text/event-stream"}
    events = document["paths"]["/v1/index/events"]["get"]["responses"]["200"]["content"]
    assert events.keys() == {"text/event-stream"}


def test_the_document_names_no_other_address(document: dict[str, Any]) -> None:
    assert not re.findall(r"https?://[^\"\s]*", json.dumps(document))


@pytest.mark.parametrize("path", ["/schema", "/docs", "/v1/openapi.json/x", "/v1/openapi.json/openapi.json"])
def test_no_page_of_a_schema_viewer_is_served(app: Litestar, path: str) -> None:
    assert TestClient(app).get(path).json()["error"]["code"] == "unsupported_endpoint"
