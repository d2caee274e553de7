"""Filters to the chunks of the files that pass them."""

from collections.abc import Callable, Iterable, Sequence

import apsw
import msgspec
import numpy as np
from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from index.dense.vector_index import Ids
from index.errors import InvalidFilter
from index.storage.sqlite.database import query
from index.types import Filters

Files = tuple[tuple[int, frozenset[str]], ...]  # paths by the id of their collection

_MOST_KEPT = 16
_FIRST, _LAST = -(1 << 63), (1 << 63) - 1


class Selections:
    """Keeps what it found until something is written. Not to be shared between threads."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Filters, tuple[int, ...], Files], Ids] = {}
        self._version = -1  # of the database

    def select(self, db: apsw.Connection, filters: Filters, collection_ids: Sequence[int], files: Files = ()) -> Ids:
        """Ids of the chunks in these collections whose files pass, ascending; of a collection in `files`, of the files
        of these paths alone. Raises `InvalidFilter`."""
        ((version,),) = query(db, "PRAGMA data_version")
        if version != self._version or len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
            self._version = version
        key = filters, tuple(collection_ids), files
        if key not in self._kept:
            whole = [id for id in collection_ids if id not in dict(files)]
            documents = _documents(db, filters, whole)
            for collection_id, paths in files:
                documents += _named(db, filters, collection_id, paths)
            self._kept[key] = _chunks(db, documents)
        return self._kept[key]


def compile_filter(filters: Filters) -> Callable[[str, int], bool]:
    """Whether a file passes, by its path and its mtime in nanoseconds. Raises `InvalidFilter`."""
    wanted = _spec([pattern for pattern in filters.paths if not pattern.startswith("!")])
    unwanted = _spec([pattern[1:] for pattern in filters.paths if pattern.startswith("!")])
    kinds = tuple(f".{kind.lower().lstrip('.')}" for kind in filters.kinds)
    after, before = _nanoseconds(filters.modified_after, _FIRST), _nanoseconds(filters.modified_before, _LAST)

    def passes(path: str, mtime_ns: int) -> bool:
        return (
            after <= mtime_ns < before
            and (not kinds or path.lower().endswith(kinds))
            and (not wanted or bool(wanted.check_file(path).include))
            and not (unwanted and unwanted.check_file(path).include)
        )

    return passes


def _spec(patterns: list[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except GitIgnorePatternError as error:
            raise InvalidFilter(pattern, str(error)) from error
    return GitIgnoreSpec.from_lines(patterns)


def _nanoseconds(seconds: float | None, otherwise: int) -> int:
    return otherwise if seconds is None else round(min(max(seconds * 1e9, _FIRST), _LAST))


def _documents(db: apsw.Connection, filters: Filters, collection_ids: Sequence[int]) -> list[int]:
    rows = query(
        db,
        "SELECT path, mtime_ns, id FROM documents WHERE collection_id IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(collection_ids).decode(),),
    )
    passes = compile_filter(filters)
    return [id for path, mtime_ns, id in rows if passes(path, mtime_ns)]


def _named(db: apsw.Connection, filters: Filters, collection_id: int, paths: Iterable[str]) -> list[int]:
    rows = query(
        db,
        "SELECT path, mtime_ns, id FROM documents WHERE collection_id = ? AND path IN (SELECT value FROM json_each(?))",
        (collection_id, msgspec.json.encode(list(paths)).decode()),
    )
    passes = compile_filter(filters)
    return [id for path, mtime_ns, id in rows if passes(path, mtime_ns)]


def _chunks(db: apsw.Connection, document_ids: list[int]) -> Ids:
    rows = query(
        db,
        "SELECT id FROM chunks WHERE document_id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (msgspec.json.encode(document_ids).decode(),),
    )
    return np.fromiter((id for (id,) in rows), np.int64, len(rows))
