"""Search in the index, as far as one principal may see it: the only way in for questions and for every API."""

import copy
from collections.abc import Callable, Sequence

from index.errors import CollectionNotFound
from index.search.base import QueryEmbedder, Searcher
from index.search.explanation import Explanation
from index.types import Filters, Passage, Query, SearchScope, Vectors, is_managed

EVERYTHING = SearchScope(None)


class SearchService:
    """Searches the vector space that is complete now, with its embedder.

    `retriever` and `embedder` return what runs now, or raise `ProcessUnavailable`.
    """

    def __init__(self, retriever: Callable[[], Searcher], embedder: Callable[[], QueryEmbedder]) -> None:
        self._retriever = retriever
        self._embedder = embedder
        self._allowed: tuple[str, ...] | None = None

    def seen_by(self, collections: Sequence[str]) -> "SearchService":
        """Return this search restricted to these collections; for it there are no others."""
        restricted = copy.copy(self)
        restricted._allowed = tuple(collections)
        return restricted

    def restrict(self, scope: SearchScope) -> SearchScope:
        """Return the scope with the collections that are searched for it.

        Uploaded files in `scope.subsets` pass: whoever put them there has checked whose they are. Raises
        `CollectionNotFound` for a collection that this search does not see.
        """
        if self._allowed is None:
            return scope
        uploads = {subset.collection for subset in scope.subsets if is_managed(subset.collection)}
        visible = {*self._allowed, *uploads}
        if hidden := next((name for name in scope.collections or () if name not in visible), None):
            raise CollectionNotFound(hidden, list(self._allowed))
        return scope._replace(collections=self._allowed) if scope.collections is None else scope

    async def search(
        self,
        queries: Sequence[Query],
        num_passages: int,
        scope: SearchScope = EVERYTHING,
        filters: Filters | None = None,
    ) -> list[Passage]:
        """Return the passages that answer one question, put in several ways, best first.

        Raises `CollectionNotFound`, `InvalidFilter`, `ProcessUnavailable`, `ProcessFailed`.
        """
        scope = self.restrict(scope)
        return await self._retriever().search(
            queries, self._embedder(), num_passages, scope.collections, filters, scope.subsets
        )

    async def explain(
        self,
        queries: Sequence[Query],
        num_passages: int,
        expected: tuple[str | None, str],
        scope: SearchScope = EVERYTHING,
        filters: Filters | None = None,
    ) -> list[Explanation]:
        """Explain what becomes of a file in such a search: a collection, None for any, and the path in it.

        Raises what `search` does.
        """
        scope = self.restrict(scope)
        return await self._retriever().explain(
            queries, self._embedder(), num_passages, expected, scope.collections, filters, self._allowed
        )

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, one a row, in the space that is searched. Raises `ProcessUnavailable`,
        `ProcessFailed`."""
        return await self._embedder().embed_queries(texts)
