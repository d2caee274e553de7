"""Search as one principal sees the index: restricted collections, and uploads that were chosen for it."""

import asyncio
from typing import Any, cast

import pytest

from index.errors import CollectionNotFound
from index.types import FileSubset, Query, SearchScope
from index.uploads import UPLOADS
from server.resources.search import SearchService
from tests.server.fakes import FakeIndex

UPLOADED = FileSubset(UPLOADS, frozenset({"a.md"}))
QUERIES = [Query("how long?")]


def search_service(index: FakeIndex) -> SearchService:
    return SearchService(cast(Any, lambda: index), cast(Any, lambda: None))


@pytest.mark.parametrize(
    ("scope", "collections"),
    [
        (SearchScope(None), ("handbook",)),
        (SearchScope(["handbook"]), ["handbook"]),
        (SearchScope([UPLOADS], (UPLOADED,)), [UPLOADS]),
    ],
)
def test_a_restricted_search_covers_its_collections_and_chosen_uploads(scope: SearchScope, collections: object) -> None:
    index = FakeIndex([])
    asyncio.run(search_service(index).seen_by(["handbook"]).search(QUERIES, 3, scope))
    assert index.searches == [(["how long?"], 3, collections, None)]


@pytest.mark.parametrize(
    "scope", [SearchScope(["policies"]), SearchScope(["handbook", "policies"]), SearchScope([UPLOADS])]
)
def test_a_restricted_search_knows_no_other_collection(scope: SearchScope) -> None:
    index = FakeIndex([])
    restricted = search_service(index).seen_by(["handbook"])
    for work in (restricted.search(QUERIES, 3, scope), restricted.explain(QUERIES, 3, (None, "a.md"), scope)):
        with pytest.raises(CollectionNotFound):
            asyncio.run(work)
    assert index.searches == []


def test_a_search_that_sees_nothing_searches_nothing() -> None:
    index = FakeIndex([])
    asyncio.run(search_service(index).seen_by([]).search(QUERIES, 3))
    assert index.searches == [(["how long?"], 3, (), None)], "no collection, not every one"


def test_an_unrestricted_search_passes_every_scope_on() -> None:
    index = FakeIndex([])
    asyncio.run(search_service(index).search(QUERIES, 3))
    assert index.searches == [(["how long?"], 3, None, None)]
