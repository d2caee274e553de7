"""Resolves the collections, files and filters of a search to ids."""

from collections.abc import Sequence
from typing import NamedTuple

from index.errors import CollectionNotFound
from index.search.filters import FilterCache
from index.storage.sqlite.reader import FileRecord, IndexReader
from index.types import FileSubset, Filters, Ids, is_managed


class ResolvedScope(NamedTuple):
    """Ids of the collections that are searched (None: all), and of the chunks (None: all in these collections)."""

    collection_ids: list[int] | None
    chunk_ids: Ids | None

    @property
    def is_empty(self) -> bool:
        return self.chunk_ids is not None and not len(self.chunk_ids)

    def why_excluded(self, file: FileRecord) -> str | None:
        """Return why a file is not searched; None when it is."""
        if self.collection_ids is not None and file.collection_id not in self.collection_ids:
            return "its collection is not searched"
        if self.chunk_ids is not None and not set(file.chunk_ids) & set(self.chunk_ids.tolist()):
            return "the filters leave it out"
        return None


def resolve_scope(
    reader: IndexReader,
    filter_cache: FilterCache,
    names: Sequence[str] | None,
    filters: Filters | None = None,
    subsets: Sequence[FileSubset] = (),
) -> ResolvedScope:
    """Resolve the arguments of `Searcher.search`. Raises `CollectionNotFound`, `InvalidFilter`."""
    ids = reader.collection_ids()
    watched = sorted(name for name in ids if not is_managed(name))
    for name in names or ():
        if name not in watched and all(name != subset.collection for subset in subsets):
            raise CollectionNotFound(name, watched)
    collection_ids = sorted(ids[name] for name in (watched if names is None else names) if name in ids)
    chunk_ids = None
    if filters not in (None, Filters()) or subsets:
        paths = tuple((ids[subset.collection], subset.paths) for subset in subsets if subset.collection in ids)
        chunk_ids = filter_cache.chunk_ids(reader, filters or Filters(), collection_ids, paths)
    return ResolvedScope(without_needless_restriction(reader, collection_ids), chunk_ids)


def without_needless_restriction(reader: IndexReader, collection_ids: list[int]) -> list[int] | None:
    """Return None where no other collection has a document: a search of everything is faster."""
    return None if reader.are_all_documents_in(collection_ids) else collection_ids
