"""Schemas narrowed for models that know no end: what a schema leaves open is bounded, so that every answer ends.

Whatever the narrowed schema allows, the schema allows. A small model that is held to JSON is asked for something it
never learned; in a text or a number without bounds it goes on until its context is full, and half an object is no JSON.
"""

from collections.abc import Sequence
from typing import Any

_MAX_LENGTH = 64  # characters of a text
_MAX_ITEMS = 4
_MAX_PROPERTIES = 4  # of objects whose properties are not named
_NAME = "^[A-Za-z_]{1,16}$"  # of such a property
_MAX_NUMBER = 999_999
_STEP = 0.001
_SCALARS = ("string", "integer", "number", "boolean", "null")
_ELSEWHERE = frozenset({"$ref", "anyOf", "oneOf"})  # what is open lies in other schemas


def bound_schema_tree(schemas: Sequence[dict[str, Any]]) -> None:
    """In place; each of them without those in it, of keywords that were checked, without annotations. Nothing where
    several hold for one value: what each leaves open another may ask for."""
    if all("allOf" not in schema and (len(schema) == 1 or not _ELSEWHERE & schema.keys()) for schema in schemas):
        for schema in schemas:
            narrow(schema)


def narrow(schema: dict[str, Any]) -> None:
    if (_ELSEWHERE | {"enum", "const"}) & schema.keys():
        return
    if not schema:
        schema["type"] = list(_SCALARS)
    kinds = schema.get("type", [*_SCALARS, "array", "object"])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if limit := _LIMITS.get(kind):
            limit(schema)


def _text(schema: dict[str, Any]) -> None:
    if not {"pattern", "format"} & schema.keys():
        schema.setdefault("maxLength", max(_MAX_LENGTH, schema.get("minLength", 0)))


def _number(schema: dict[str, Any]) -> None:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        schema["minimum"] = -_MAX_NUMBER if high is None else min(-_MAX_NUMBER, int(high) - _MAX_NUMBER)
    if high is None:
        schema["maximum"] = _MAX_NUMBER if low is None else max(_MAX_NUMBER, int(low) + _MAX_NUMBER)


def _fraction(schema: dict[str, Any]) -> None:
    """A step too, where there is room for it between the bounds."""
    bounds = [schema.get(name, 0) for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")]
    _number(schema)
    if all(float(bound).is_integer() for bound in bounds):
        schema.setdefault("multipleOf", _STEP)


def _array(schema: dict[str, Any]) -> None:
    schema.setdefault("maxItems", max(_MAX_ITEMS, schema.get("minItems", 0), len(schema.get("prefixItems", ()))))


def _object(schema: dict[str, Any]) -> None:
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
        narrow(value := {})
    schema["patternProperties"], schema["additionalProperties"] = {_NAME: value}, False


_LIMITS = {
    "string": _text,
    "integer": _number,
    "number": _fraction,
    "array": _array,
    "object": _object,
}
