"""Decide which documents are deleted because their files are gone.

An unmounted disk looks like a folder whose files have all been deleted. So documents are held, that is kept although
their files are missing, when at least half of a collection goes at once, or when an empty folder has taken the place
of the root. They are deleted when their files come back elsewhere, after `hold_deletions_s`, or when a person accepts.
"""

import os
from collections.abc import Iterable

from index.ingest.files import Listing, is_empty
from index.ingest.followed_collections import FollowedCollection
from index.storage.base import DocumentStore
from index.storage.records import FileStat, KnownDocument

_FEW = 50  # documents that may always be deleted at once


def without_file(listing: Listing, known: dict[str, KnownDocument]) -> set[str]:
    """Return the paths of known documents that the listing has no file for, leaving out folders it could not list."""
    if "" in listing.unlisted:
        return set()
    missing = known.keys() - {path for path, _ in listing.files}
    unlisted = tuple(f"{folder}/" for folder in listing.unlisted)
    return {path for path in missing if not path.startswith(unlisted)} if unlisted else missing


class HeldDeletions:
    """Owns which collections hold documents, and in which of them a person has accepted the deletions."""

    def __init__(self, store: DocumentStore, hold_deletions_s: float) -> None:
        self._store = store
        self._hold_deletions_s = hold_deletions_s
        self._holding: set[FollowedCollection] = set()
        self._accepted: set[FollowedCollection] = set()

    def accept(self, collections: Iterable[FollowedCollection]) -> None:
        """Let the next scan of these collections delete what is held."""
        self._accepted.update(collections)

    def is_holding(self, collection: FollowedCollection) -> bool:
        return collection in self._holding

    def confirm(
        self, collection: FollowedCollection, listing: Listing, known: dict[str, KnownDocument], identity: str
    ) -> set[str]:
        """Return the paths of the documents to delete, leaving out those that are held.

        `listing` and `known` are of the whole collection; `identity` is the root's. Raises `RootUnavailable`.
        """
        deleted_paths = without_file(listing, known)
        if collection.is_managed:  # the server deletes these files itself, one by one
            return deleted_paths
        missing = self._missing(collection, listing, known, deleted_paths, identity)
        if collection in self._accepted:
            self._accepted.discard(collection)
            missing = set()
        if missing:
            held_s = self._store.record_missing(collection.id, len(missing))
            if held_s < self._hold_deletions_s:
                self._holding.add(collection)
                return deleted_paths - missing
        self._store.record_missing(collection.id, 0)
        self._holding.discard(collection)
        return deleted_paths

    def _missing(
        self,
        collection: FollowedCollection,
        listing: Listing,
        known: dict[str, KnownDocument],
        deleted_paths: set[str],
        identity: str,
    ) -> set[str]:
        """Return the documents to hold: none, unless it may be the disk that is gone.

        Documents whose file was only moved, or is there and not wanted any more, are not held.
        """
        previous = self._store.identity(collection.id)
        if not deleted_paths or previous is None:
            return set()
        is_replaced = previous != identity and is_empty(collection.root)
        many = max(_FEW, len(known) / 2 + 1)
        if not is_replaced and len(deleted_paths) < many:
            return set()
        present = {_traits(stat) for _, stat in listing.files}
        missing = {
            path
            for path in deleted_paths
            if _traits(known[path].stat) not in present and not os.path.lexists(collection.root / path)
        }
        return missing if is_replaced or len(missing) >= many else set()


def _traits(stat: FileStat) -> tuple[int, int, int]:
    """Return what a move keeps of a file. The inode alone may be another file's by now."""
    return stat.inode, stat.size, stat.mtime_ns
