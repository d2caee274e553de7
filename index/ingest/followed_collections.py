"""The collections whose folders are followed, and the paths in them that a path on disk stands for."""

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from index.types import Collection


class FollowedCollection(NamedTuple):
    """A collection with its id in the database. Another root makes it another followed collection."""

    id: int
    name: str
    root: Path
    is_managed: bool = False  # the server writes its files and deletes them, see `Collection.is_managed`


class CollectionPath(NamedTuple):
    """A path of a file or a folder below the root of a collection, relative to it, with /."""

    collection: FollowedCollection
    path: str


class HintTargets(NamedTuple):
    """The meaning of a path on disk: paths of collections, and the collections whose events a link may hide."""

    paths: list[CollectionPath]
    linked: list[FollowedCollection]


class FollowedCollections:
    """Maps paths on disk to the collections around them; a path can lie in several."""

    def __init__(self, data: Path) -> None:
        """`data` is the resolved data folder: only managed collections have documents in it."""
        self._data = data
        self._collections: list[FollowedCollection] = []

    def __iter__(self) -> Iterator[FollowedCollection]:
        return iter(self._collections)

    def follow(self, collections: Iterable[Collection], ids: dict[str, int]) -> None:
        """Replace the collections by these; `ids` has the id of each name."""
        self._collections = [
            FollowedCollection(ids[collection.name], collection.name, collection.root, collection.is_managed)
            for collection in collections
        ]

    def select(self, names: Container[str] | None) -> list[FollowedCollection]:
        """Return the collections of these names, or all collections for None."""
        return [collection for collection in self._collections if names is None or collection.name in names]

    def locate(self, path: Path) -> HintTargets:
        """Return where an absolute path lies, with symbolic links on the way to it resolved."""
        is_in_data = path.is_relative_to(self._data)
        real = path.parent.resolve() / path.name
        paths = [
            CollectionPath(collection, real.relative_to(collection.root).as_posix())
            for collection in self._collections
            if real.is_relative_to(collection.root) and (collection.is_managed or not is_in_data)
        ]
        is_linked = (real != path or path.is_symlink()) and not is_in_data
        return HintTargets(paths, self.affected_by_link(path) if is_linked else [])

    def affected_by_link(self, link: Path) -> list[FollowedCollection]:
        """Return the collections that lie around a link, around its target, or below its target.

        The system watches a linked folder under one of its names only, and stops when the link is deleted: events of
        these collections may be missing.
        """
        target = link.resolve()
        return [
            collection
            for collection in self._collections
            if link.is_relative_to(collection.root)
            or target.is_relative_to(collection.root)
            or collection.root.is_relative_to(target)
        ]
