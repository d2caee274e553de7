"""Generate the OpenAPI document from the routes, and serve it as JSON.

Litestar describes paths and parameters; msgspec, which decodes and encodes the bodies, describes these.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import BodyKwarg
from litestar.response import Stream
from litestar.routes import HTTPRoute

from server.http.error_body import ErrorBody

PATH = "/v1/openapi.json"
STREAM_TYPE = "stream_type"  # option of a handler: the media type of its stream, unless it is an event stream
_REFERENCE = "#/components/schemas/{name}"
_REFERENCES = re.compile(r'"#/components/schemas/([^"]+)"')


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Cloister",
        version=version("cloister"),
        path=PATH,
        render_plugins=[_DocumentPlugin()],
        use_handler_docstrings=True,
    )


class _DocumentPlugin(JsonRenderPlugin):
    def __init__(self) -> None:
        super().__init__(path=["/", "/openapi.json"])
        self._rendered: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._rendered is None:
            self._rendered = msgspec.json.encode(complete_document(openapi_schema, request.app))
        return self._rendered

    def receive_router(self, router: Router) -> None:
        """Remove the other routes that Litestar serves beside the document."""
        router.routes = [route for route in router.routes if route.path == PATH]


class _Operation(NamedTuple):
    """An operation of the document: its schema, and the handler it is made from."""

    schema: dict[str, Any]
    handler: HTTPRouteHandler

    @property
    def body(self) -> Any:
        """The type of the JSON request body, or None."""
        field = self.handler.parsed_data_field
        if field is None or not isinstance(field.kwarg_definition, BodyKwarg):
            return None
        return field.annotation if field.kwarg_definition.media_type == RequestEncodingType.JSON else None

    @property
    def replies(self) -> dict[str, Any]:
        """The types of the JSON replies, by status."""
        types = {}
        returned = self.handler.parsed_fn_signature.return_type
        if not returned.is_subclass_of((Response, type(None))):
            types[str(self.handler.status_code)] = returned.annotation
        for status, spec in (self.handler.responses or {}).items():
            if _is_json(spec):
                types[str(status)] = spec.data_container
        return types

    def complete(self, schemas: dict[Any, dict[str, Any]]) -> None:
        """Write the schemas of bodies and replies into the operation."""
        responses = self.schema["responses"]
        if "400" in responses and 400 not in (self.handler.responses or {}):
            del responses["400"]  # Litestar's own, of another shape
        if self.body is not None:
            self.schema["requestBody"]["content"] = {RequestEncodingType.JSON.value: {"schema": schemas[self.body]}}
            self.schema["requestBody"]["required"] = not self._is_body_optional
        for status, reply in self.replies.items():
            responses[status]["content"] = {"application/json": {"schema": schemas[reply]}}
        if self.handler.parsed_fn_signature.return_type.is_subclass_of(Stream):
            responses["200"]["content"] = {}
        if self.is_stream:
            responses["200"]["content"][self.handler.opt.get(STREAM_TYPE, "text/event-stream")] = {}
        error_types = (self.replies[status] for status in sorted(self.replies) if status.startswith("4"))
        responses["default"] = _error(schemas[next(error_types, ErrorBody)])

    @property
    def _is_body_optional(self) -> bool:
        field = self.handler.parsed_data_field
        return field is not None and (field.is_optional or field.has_default)

    @property
    def is_stream(self) -> bool:
        """True if the handler streams always, or when the body asks for it."""
        is_always = self.handler.parsed_fn_signature.return_type.is_subclass_of(Stream)
        return is_always or "stream" in getattr(self.body, "__struct_fields__", ())


def complete_document(document: dict[str, Any], app: Litestar) -> dict[str, Any]:
    """Add msgspec's schemas of all bodies to Litestar's document, and remove schemas that nothing refers to."""
    operations = list(_operations(document, app))
    types = {ErrorBody: None}
    for operation in operations:
        types |= dict.fromkeys(operation.replies.values())
        if operation.body is not None:
            types[operation.body] = None
    type_schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schemas = dict(zip(types, type_schemas, strict=True))
    for operation in operations:
        operation.complete(schemas)
    all_schemas = document["components"]["schemas"] | components
    document["components"]["schemas"] = {
        name: all_schemas[name] for name in sorted(_reachable(document["paths"], all_schemas))
    }
    return document


def _operations(document: dict[str, Any], app: Litestar) -> Iterator[_Operation]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if schema := document["paths"].get(route.path_format, {}).get(method.lower()):
                    yield _Operation(schema, handler)


def _is_json(spec: ResponseSpec) -> bool:
    return spec.media_type == "application/json"


def _error(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Why the request failed", "content": {"application/json": {"schema": schema}}}


def _reachable(paths: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """Return the names of the schemas that the paths refer to, directly or through other schemas."""
    reached: set[str] = set()
    pending = [paths]
    while pending:
        names = set(_REFERENCES.findall(msgspec.json.encode(pending.pop()).decode())) - reached
        reached |= names
        pending += [schemas[name] for name in names]
    return reached


def name_operations(app: Litestar) -> None:
    """Give each path of a handler with several paths an operation id of its own, as OpenAPI requires."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if isinstance(handler.operation_id, str) and len(handler.paths) > 1:
                    handler.operation_id = _OperationName(handler.operation_id, min(handler.paths, key=_preference))


def _preference(path: str) -> tuple[bool, str]:
    return not path.startswith("/v1/"), path


class _OperationName:
    """Returns the handler's own name at the preferred path, and the name with the path at others."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = path

    def __call__(self, handler: HTTPRouteHandler, method: object, components: list[Any]) -> str:
        path = "/" + "/".join(each if isinstance(each, str) else f"{{{each.full}}}" for each in components)
        words = [each if isinstance(each, str) else each.name for each in components]
        return self.name if path == self._path else "_".join([self.name, "at", *words])
