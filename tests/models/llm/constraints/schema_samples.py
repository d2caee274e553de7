"""JSON Schemas with checks of their values."""

import re
from collections.abc import Callable
from typing import Any

PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12, "description": "in full"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 130},
        "tags": {"type": "array", "items": {"enum": ["red", "blue", 3, None]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/tree",
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "value": {"$ref": "#/$defs/value"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
            },
            "required": ["value"],
            "additionalProperties": False,
        },
        "value": {"anyOf": [{"type": "boolean"}, {"const": "x"}]},
    },
}
PETS = {  # what pydantic makes of a discriminated union
    "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
    "discriminator": {"propertyName": "kind"},
    "$defs": {
        "Cat": {
            "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"type": "integer", "maximum": 9}},
            "required": ["kind", "lives"],
            "type": "object",
            "additionalProperties": False,
        },
        "Dog": {
            "properties": {"kind": {"const": "dog", "type": "string"}},
            "required": ["kind"],
            "type": "object",
            "additionalProperties": False,
        },
    },
}


def is_int(value: Any) -> bool:
    return type(value) is int


def is_person(v: Any) -> bool:
    return (
        {"name", "age"} <= v.keys() <= {"name", "age", "tags"}
        and 1 <= len(v["name"]) <= 12
        and is_int(v["age"])
        and 0 <= v["age"] < 130
        and len(v.get("tags", [])) <= 3
        and all(tag in ("red", "blue", 3, None) for tag in v.get("tags", []))
    )


def is_tree(v: Any) -> bool:
    children = v.get("children", [])
    return v["value"] in (True, False, "x") and len(children) <= 2 and all(map(is_tree, children))


CASES: dict[str, tuple[object, Callable[[Any], bool]]] = {
    "object": (PERSON, is_person),
    "recursive": (TREE, is_tree),
    "discriminated": (PETS, lambda v: v == {"kind": "dog"} or (v["kind"] == "cat" and v["lives"] <= 9)),
    "const": ({"const": {"a": [1, 'é"\\/\n', None]}}, lambda v: v == {"a": [1, 'é"\\/\n', None]}),
    "enum": ({"enum": ["a", "ab", 1.5, {"b": 2}]}, lambda v: v in ["a", "ab", 1.5, {"b": 2}]),
    "number": ({"type": "number", "minimum": -2.5, "maximum": 10}, lambda v: -2.5 <= v <= 10),
    "multiple": ({"type": "integer", "multipleOf": 7}, lambda v: is_int(v) and v % 7 == 0),
    "length": ({"type": "string", "minLength": 2, "maxLength": 4}, lambda v: 2 <= len(v) <= 4),
    "pattern": ({"type": "string", "pattern": "^[A-Z]{2}-\\d+$"}, lambda v: re.fullmatch("[A-Z]{2}-[0-9]+", v)),
    "part": ({"type": "string", "pattern": "[0-9]", "maxLength": 9}, lambda v: re.search("[0-9]", v) and len(v) <= 9),
    "no quotes": ({"type": "string", "pattern": '^[^"]*$'}, lambda v: '"' not in v),
    "no controls": ({"type": "string", "pattern": "^[^\\x00-\\x1f]+$"}, lambda v: v and min(v) > "\x1f"),
    "date": ({"type": "string", "format": "date"}, lambda v: re.fullmatch(r"\d{4}-[01]\d-[0-3]\d", v)),
    "any of": (
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "boolean"}}]},
        lambda v: v is None or all(type(i) is bool for i in v),
    ),
    "all of": (
        {
            "allOf": [
                {"type": "object", "required": ["a"]},
                {"properties": {"a": {"type": "integer"}}, "maxProperties": 1},
            ]
        },
        lambda v: v.keys() == {"a"} and is_int(v["a"]),
    ),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2},
        lambda v: list(map(type, v)) == [int, str],
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 2},
        lambda v: v and all(map(is_int, v.values())),
    ),
    "names": (
        {"type": "object", "patternProperties": {"^[^_]": {"type": "null"}}, "additionalProperties": False},
        lambda v: all(name[0] != "_" and item is None for name, item in v.items()),
    ),
    "others": (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        lambda v: all(is_int(item) if name == "a" else isinstance(item, str) for name, item in v.items()),
    ),
    "anything": ({"type": "object"}, lambda v: isinstance(v, dict)),
}
