"""Which files of a store are searched, by their attributes.

Texts are compared with texts, numbers with numbers, truth values with truth values; anything else is unequal and
neither less nor more. A file without the attribute passes `ne` and `nin` alone.
"""

from enum import StrEnum
from operator import eq, ge, gt, le, lt
from typing import Any, TypeAlias, Union

import msgspec

from server.files.records import Attribute, Attributes


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
    """`values` has one, but of `in` and `nin`."""

    how: Comparison
    key: str
    values: tuple[Attribute, ...]


class AllOf(msgspec.Struct, frozen=True):
    parts: tuple["Filter", ...]


class AnyOf(msgspec.Struct, frozen=True):
    parts: tuple["Filter", ...]


Filter: TypeAlias = Union[Compare, "AllOf", "AnyOf"]

_ORDERS = {Comparison.GT: gt, Comparison.GTE: ge, Comparison.LT: lt, Comparison.LTE: le}


def passes(attributes: Attributes, filter: Filter) -> bool:
    match filter:
        case AllOf(parts=parts):
            return all(passes(attributes, part) for part in parts)
        case AnyOf(parts=parts):
            return any(passes(attributes, part) for part in parts)
        case Compare(how=Comparison.EQ | Comparison.IN, key=key, values=values):
            return _is_one_of(attributes.get(key), values)
        case Compare(how=Comparison.NE | Comparison.NIN, key=key, values=values):
            return not _is_one_of(attributes.get(key), values)
        case Compare(how=how, key=key, values=(value,)):
            return _kind(attributes.get(key)) is _kind(value) is not None and _is_so(attributes[key], how, value)
    raise AssertionError(filter)


def _is_so(found: Any, how: Comparison, value: Any) -> bool:
    return bool(_ORDERS[how](found, value))


def _is_one_of(found: Attribute | None, values: tuple[Attribute, ...]) -> bool:
    return any(_kind(found) is _kind(value) and eq(found, value) for value in values)


def _kind(value: Any) -> type | None:
    """To Python, True is 1."""
    match value:
        case bool():
            return bool
        case int() | float():
            return float
        case str():
            return str
        case _:
            return None
