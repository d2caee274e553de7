"""Bounded schemas: a JSON Schema narrowed so that every answer ends.

Every answer of the bounded schema is one of the schema's. A small model that is constrained to JSON does something it
never learned; in a text or a number without bounds it goes on until its context is full, and half an object is no JSON.
"""

from collections.abc import Sequence
from typing import Any

_MAX_LENGTH = 64  # characters of a text
_MAX_ITEMS = 4
_MAX_PROPERTIES = 4  # of objects whose schema names no properties
_NAME = "^[A-Za-z_]{1,16}$"  # of such a property
_MAX_NUMBER = 999_999
_STEP = 0.001
_SCALARS = ("string", "integer", "number", "boolean", "null")
_REFERRING = frozenset({"$ref", "anyOf", "oneOf"})  # keywords by which other schemas say what is open


def bound_schemas(schemas: Sequence[dict[str, Any]]) -> None:
    """Bound these schemas in place, each without the schemas in it. Their keywords must have been checked.

    Nothing is changed if several schemas apply to one value: one may require what another leaves open.
    """
    if all("allOf" not in schema and (len(schema) == 1 or not _REFERRING & schema.keys()) for schema in schemas):
        for schema in schemas:
            bound_schema(schema)


def bound_schema(schema: dict[str, Any]) -> None:
    if (_REFERRING | {"enum", "const"}) & schema.keys():
        return
    if not schema:
        schema["type"] = list(_SCALARS)
    kinds = schema.get("type", [*_SCALARS, "array", "object"])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if bound := _BOUNDS.get(kind):
            bound(schema)


def _bound_text(schema: dict[str, Any]) -> None:
    if not {"pattern", "format"} & schema.keys():
        schema.setdefault("maxLength", max(_MAX_LENGTH, schema.get("minLength", 0)))


def _bound_number(schema: dict[str, Any]) -> None:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        schema["minimum"] = -_MAX_NUMBER if high is None else min(-_MAX_NUMBER, int(high) - _MAX_NUMBER)
    if high is None:
        schema["maximum"] = _MAX_NUMBER if low is None else max(_MAX_NUMBER, int(low) + _MAX_NUMBER)


def _bound_fraction(schema: dict[str, Any]) -> None:
    """Bound a number, and its digits if there is room for a step between the bounds."""
    bounds = [schema.get(name, 0) for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")]
    _bound_number(schema)
    if all(float(bound).is_integer() for bound in bounds):
        schema.setdefault("multipleOf", _STEP)


def _bound_array(schema: dict[str, Any]) -> None:
    schema.setdefault("maxItems", max(_MAX_ITEMS, schema.get("minItems", 0), len(schema.get("prefixItems", ()))))


def _bound_object(schema: dict[str, Any]) -> None:
    named = schema.get("properties", {})
    if schema.get("additionalProperties", True) is False or "patternProperties" in schema:
        return
    if named:
        if set(schema.get("required", ())) <= named.keys() and len(named) >= schema.get("minProperties", 0):
            schema["additionalProperties"] = False
        return
    if schema.get("required"):
        return
    schema.setdefault("maxProperties", max(_MAX_PROPERTIES, schema.get("minProperties", 0)))
    value = schema.get("additionalProperties", True)
    if value is True:
        bound_schema(value := {})
    schema["patternProperties"], schema["additionalProperties"] = {_NAME: value}, False


_BOUNDS = {
    "string": _bound_text,
    "integer": _bound_number,
    "number": _bound_fraction,
    "array": _bound_array,
    "object": _bound_object,
}
