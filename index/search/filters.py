"""Resolves filters and subsets of files to the ids of the chunks that may be found."""

from collections.abc import Callable, Sequence

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from index.errors import InvalidFilter
from index.storage.sqlite.reader import IndexReader
from index.types import Filters, Ids

Subsets = tuple[tuple[int, frozenset[str]], ...]  # collection id, paths in it

_MAX_CACHED = 16
_MIN_NS, _MAX_NS = -(1 << 63), (1 << 63) - 1


class FilterCache:
    """Keeps what filters resolved to until something is committed. For one thread at a time."""

    def __init__(self) -> None:
        self._chunk_ids: dict[tuple[Filters, tuple[int, ...], Subsets], Ids] = {}
        self._version = -1  # of the database

    def chunk_ids(
        self, reader: IndexReader, filters: Filters, collection_ids: Sequence[int], subsets: Subsets = ()
    ) -> Ids:
        """Return the ids of the chunks in these collections whose files pass, ascending; of a collection in `subsets`
        only those of the files it names. Raises `InvalidFilter`."""
        version = reader.version()
        if version != self._version or len(self._chunk_ids) >= _MAX_CACHED:
            self._chunk_ids.clear()
            self._version = version
        key = filters, tuple(collection_ids), subsets
        if key not in self._chunk_ids:
            self._chunk_ids[key] = _resolve(reader, filters, collection_ids, subsets)
        return self._chunk_ids[key]


def _resolve(reader: IndexReader, filters: Filters, collection_ids: Sequence[int], subsets: Subsets) -> Ids:
    passes = compile_filter(filters)
    whole = [id for id in collection_ids if id not in dict(subsets)]
    document_ids = reader.select_documents(whole, passes)
    for collection_id, paths in subsets:
        document_ids += reader.select_documents([collection_id], passes, paths)
    return reader.chunk_ids(document_ids)


def compile_filter(filters: Filters) -> Callable[[str, int], bool]:
    """Return a function that says whether a file passes, by its path and its mtime in nanoseconds. Raises
    `InvalidFilter`."""
    included = _spec([pattern for pattern in filters.paths if not pattern.startswith("!")])
    excluded = _spec([pattern[1:] for pattern in filters.paths if pattern.startswith("!")])
    suffixes = tuple(f".{kind.lower().lstrip('.')}" for kind in filters.kinds)
    after_ns, before_ns = _nanoseconds(filters.modified_after, _MIN_NS), _nanoseconds(filters.modified_before, _MAX_NS)

    def passes(path: str, mtime_ns: int) -> bool:
        return (
            after_ns <= mtime_ns < before_ns
            and (not suffixes or path.lower().endswith(suffixes))
            and (not included or bool(included.check_file(path).include))
            and not (excluded and excluded.check_file(path).include)
        )

    return passes


def _spec(patterns: list[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except GitIgnorePatternError as error:
            raise InvalidFilter(pattern, str(error)) from error
    return GitIgnoreSpec.from_lines(patterns)


def _nanoseconds(seconds: float | None, default: int) -> int:
    return default if seconds is None else round(min(max(seconds * 1e9, _MIN_NS), _MAX_NS))
