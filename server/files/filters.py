"""Filters of a vector store's files by their attributes.

Texts are compared with texts, numbers with numbers, truth values with truth values. Values of different kinds are
unequal, and neither is less or greater. A file without the attribute passes `ne` and `nin` alone.
"""

from enum import StrEnum
from operator import eq, ge, gt, le, lt
from typing import Any, TypeAlias, Union

import msgspec

from server.storage.file_records import Attribute, Attributes


class Comparison(StrEnum):
    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NIN = "nin"


class Compare(msgspec.Struct, frozen=True):
    """A comparison of an attribute. `values` is one value, except for `in` and `nin`."""

    operator: Comparison
    key: str
    values: tuple[Attribute, ...]


class AllOf(msgspec.Struct, frozen=True):
    parts: tuple["Filter", ...]


class AnyOf(msgspec.Struct, frozen=True):
    parts: tuple["Filter", ...]


Filter: TypeAlias = Union[Compare, "AllOf", "AnyOf"]

_ORDERS = {Comparison.GT: gt, Comparison.GTE: ge, Comparison.LT: lt, Comparison.LTE: le}


def passes(attributes: Attributes, filter: Filter) -> bool:
    """Return whether a file with these attributes passes."""
    match filter:
        case AllOf(parts=parts):
            return all(passes(attributes, part) for part in parts)
        case AnyOf(parts=parts):
            return any(passes(attributes, part) for part in parts)
        case Compare(operator=Comparison.EQ | Comparison.IN, key=key, values=values):
            return _is_one_of(attributes.get(key), values)
        case Compare(operator=Comparison.NE | Comparison.NIN, key=key, values=values):
            return not _is_one_of(attributes.get(key), values)
        case Compare(operator=operator, key=key, values=(value,)):
            return _kind(attributes.get(key)) is _kind(value) is not None and _compare(attributes[key], operator, value)
    raise AssertionError(filter)


def _compare(attribute: Any, operator: Comparison, value: Any) -> bool:
    return bool(_ORDERS[operator](attribute, value))


def _is_one_of(attribute: Attribute | None, values: tuple[Attribute, ...]) -> bool:
    return any(_kind(attribute) is _kind(value) and eq(attribute, value) for value in values)


def _kind(value: Any) -> type | None:
    """Return the type that values are compared as. Python alone would have True equal 1."""
    match value:
        case bool():
            return bool
        case int() | float():
            return float
        case str():
            return str
        case _:
            return None
