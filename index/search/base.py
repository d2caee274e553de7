"""The interface of a search over the index."""

from collections.abc import Sequence
from typing import Protocol

from index.search.explanation import Explanation
from index.types import FileSubset, Filters, Passage, Query, Vectors


class QueryEmbedder(Protocol):
    async def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


class Searcher(Protocol):
    """Finds passages in what is committed at the time of the call. Raises `StorageError` throughout."""

    async def search(
        self,
        queries: Sequence[Query],
        embedder: QueryEmbedder,
        k: int,
        collections: Sequence[str] | None = None,
        filters: Filters | None = None,
        subsets: Sequence[FileSubset] = (),
    ) -> list[Passage]:
        """Return the `k` best passages for one question that is put in these ways, best first.

        Search these collections, or (None) all that are watched; of a collection in `subsets` only the files it names;
        and only files that pass the filters. A query of weight 0 is not searched. Raises `CollectionNotFound`,
        `InvalidFilter`.
        """
        ...

    async def explain(
        self,
        queries: Sequence[Query],
        embedder: QueryEmbedder,
        k: int,
        expected: tuple[str | None, str],
        collections: Sequence[str] | None = None,
        filters: Filters | None = None,
        known: Sequence[str] | None = None,
    ) -> list[Explanation]:
        """Return why an expected file is or is not among the passages of such a search.

        `expected` is a collection, or None for any, and the path in it; each collection that has the path gives one
        explanation. `known`: the collections that whoever asks may see; None: all. Slower than a search.
        """
        ...

    async def catch_up(self) -> None:
        """Take in what was committed, so that the next search has less to do."""
        ...

    def close(self) -> None: ...
