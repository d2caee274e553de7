"""Filters of a vector store's files by their attributes."""

from typing import Any

import pytest

from server.api.vector_stores.request import parse_filter
from server.api.vector_stores.wire import FilterRequest
from server.errors import RequestError
from server.files.filters import AllOf, AnyOf, Compare, Comparison, passes

ATTRIBUTES: dict[str, Any] = {"year": 2024, "share": 0.5, "kind": "minutes", "is_final": True}


@pytest.mark.parametrize(
    "operator, key, value, expected",
    [
        ("eq", "year", 2024, True),
        ("eq", "year", 2024.0, True),
        ("eq", "year", "2024", False),
        ("eq", "is_final", True, True),
        ("eq", "is_final", 1, False),
        ("ne", "is_final", 1, True),
        ("ne", "kind", "minutes", False),
        ("gt", "year", 2023, True),
        ("gt", "year", 2024, False),
        ("gte", "year", 2024, True),
        ("lt", "share", 1, True),
        ("lte", "share", 0.4, False),
        ("gt", "kind", "letters", True),
        ("gt", "kind", 3, False),
        ("lt", "kind", 3, False),
        ("gt", "is_final", False, True),
        ("in", "kind", ["letters", "minutes"], True),
        ("in", "kind", [], False),
        ("in", "year", ["2024", 2023], False),
        ("nin", "kind", ["letters"], True),
        ("nin", "kind", ["letters", "minutes"], False),
        ("eq", "missing", "x", False),
        ("gt", "missing", 0, False),
        ("lt", "missing", 0, False),
        ("in", "missing", [1], False),
        ("ne", "missing", "x", True),
        ("nin", "missing", [1], True),
    ],
)
def test_a_comparison_passes_values_of_its_kind(operator: str, key: str, value: Any, expected: bool) -> None:
    filter = parse_filter(FilterRequest(type=operator, key=key, value=value))
    assert filter is not None and passes(ATTRIBUTES, filter) is expected


def test_comparisons_are_joined_at_any_depth() -> None:
    new, old = Compare(Comparison.GT, "year", (2023,)), Compare(Comparison.LT, "year", (2000,))
    assert passes(ATTRIBUTES, AnyOf((old, AllOf((new, AnyOf((new, old)))))))
    assert not passes(ATTRIBUTES, AllOf((new, AnyOf((old, AllOf((old, new)))))))


def test_filters_of_another_kind_are_not_equal() -> None:
    part = Compare(Comparison.EQ, "a", (1,))
    assert len({AllOf((part,)), AnyOf((part,)), part}) == 3


@pytest.mark.parametrize(
    "filter_request, param",
    [
        (FilterRequest("like", "a", 1), "filters.type"),
        (FilterRequest("eq", None, 1), "filters.key"),
        (FilterRequest("eq", "a", None), "filters.value"),
        (FilterRequest("eq", "a", {"b": 1}), "filters.value"),
        (FilterRequest("eq", "a", [1]), "filters.value"),
        (FilterRequest("in", "a", 1), "filters.value"),
        (FilterRequest("in", "a", [None]), "filters.value"),
        (FilterRequest("and"), "filters.filters"),
        (FilterRequest("or", filters=[]), "filters.filters"),
        (FilterRequest("or", filters=[FilterRequest("eq", "a", 1), FilterRequest("eq")]), "filters.filters[1].key"),
    ],
)
def test_an_invalid_filter_is_refused_with_the_path_of_its_field(filter_request: FilterRequest, param: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_filter(filter_request)
    assert error.value.param == param


def test_the_depth_of_filters_is_limited() -> None:
    nested = FilterRequest("eq", "a", 1)
    for _ in range(50):
        nested = FilterRequest("and", filters=[nested])
    with pytest.raises(RequestError, match="deep"):
        parse_filter(nested)
