"""Compares folders with the documents that are known, and decides what is read and what is deleted."""

import contextlib
import logging
import time
from pathlib import Path

from index.errors import RootUnavailable
from index.ingest.deletions import HeldDeletions, without_file
from index.ingest.files import Listing, folder_identity, is_hidden, is_indexable, is_nameable, list_files, stat_file
from index.ingest.followed_collections import CollectionPath, FollowedCollection, FollowedCollections
from index.ingest.ignore_rules import IGNORE_FILE
from index.ingest.progress import ProgressReporter
from index.ingest.scan_schedule import ScanSchedule
from index.ingest.settle_queue import MAX_UNSETTLED_S, SettleQueue
from index.ingest.watched_roots import WatchedRoots
from index.ingest.work_queue import WorkQueue
from index.storage.base import DocumentStore
from index.storage.records import FileStat, KnownDocument

_log = logging.getLogger(__name__)

_BURST = 1000  # hints at once that make a scan the cheaper answer


class Scanner:
    """Marks new and changed files pending in the database, queues them, and deletes documents whose files are gone.

    `scan` compares a whole collection; `examine` one path that a hint named. Only a scan deletes more than one
    document, and not many at once: see `HeldDeletions`. The queues and the schedule are the indexer's.
    """

    def __init__(
        self,
        store: DocumentStore,
        data: Path,
        collections: FollowedCollections,
        schedule: ScanSchedule,
        settling: SettleQueue,
        queue: WorkQueue,
        progress: ProgressReporter,
        *,
        settle_s: float,
        hold_deletions_s: float,
    ) -> None:
        """`data` is the resolved data folder; it is left out where it lies in a root."""
        self._store = store
        self._data = data
        self._collections = collections
        self._schedule = schedule
        self._settling = settling
        self._queue = queue
        self._progress = progress
        self._settle_s = settle_s
        self._deletions = HeldDeletions(store, hold_deletions_s)

    def scan_due(self, roots: WatchedRoots) -> None:
        """Scan the collections that are due, and schedule the next scans by whether their roots are watched."""
        for collection in self._schedule.due():
            started = time.monotonic()
            self.scan(collection, is_settling=True)
            self._schedule.finish(collection, started, has_events=roots.is_watched(collection.root))

    def rescan(
        self, collections: list[FollowedCollection], path: str | None = None, *, accept_deletions: bool = False
    ) -> None:
        """Scan these collections soon, and read their failed files, or the one at `path`, again."""
        for collection in collections:
            self._store.retry_failed(collection.id, path)
        if accept_deletions:
            self._deletions.accept(collections)
        self._schedule.scan_soon(*collections)

    def scan(self, collection: FollowedCollection, *, is_settling: bool = False) -> None:
        """Compare a collection with its folder.

        With `is_settling`, files that were changed a moment ago are left to the settle queue. A root that is not
        there, or cannot be listed, deletes nothing; the reason becomes the collection's error.
        """
        self._progress.report("scanning", collection.name)
        root = collection.root
        try:
            root_identity = folder_identity(root)
            listing = list_files(root, excluded=self._data)
            known = self._store.known_documents(collection.id)
            deleted_paths = self._deletions.confirm(collection, listing, known, root_identity)
        except RootUnavailable as error:
            _log.warning("%s", error)
            self._store.record_scan(collection.id, error.reason)
            return
        except OSError as error:
            self._store.record_scan(collection.id, error.strerror or str(error))
            return
        for link in listing.links:
            self._schedule.poll(*self._collections.affected_by_link(root / link))
        changed_files = self._apply(collection, listing, known, deleted_paths)
        self._queue_changed(collection, changed_files, is_settling=is_settling)
        is_holding = self._deletions.is_holding(collection)
        self._store.record_scan(collection.id, None, None if is_holding else root_identity)

    def receive_hints(self, hints: set[Path]) -> None:
        """Let the paths that the watcher named rest before they are examined; hidden ones are dropped."""
        if len(hints) > _BURST:  # some may have been lost
            self._schedule.scan_soon(*self._collections, delay_s=self._settle_s)
            return
        now = time.monotonic()
        for hint in hints:
            targets = self._collections.locate(hint)
            self._schedule.poll(*targets.linked)
            for target in targets.paths:
                if is_hidden(target.path) and not target.path.endswith(IGNORE_FILE):
                    continue
                self._settling.touch(target, now)
                if self._deletions.is_holding(target.collection):  # the files may be coming back
                    self._schedule.scan_soon(target.collection, delay_s=self._settle_s)

    def examine_settled(self) -> int:
        """Examine the paths that have settled; return how many."""
        settled = self._settling.take_settled(time.monotonic())
        for target in settled:
            self.examine(target)
        return len(settled)

    def examine(self, target: CollectionPath) -> None:
        """Compare one path, of a file or of a folder and all below it, with what is known of it."""
        collection, path = target
        if not is_nameable(path):
            return
        if path.rpartition("/")[2] == IGNORE_FILE:
            self._schedule.scan_soon(collection)
        elif is_hidden(path):
            return
        elif stat := stat_file(collection.root, path):
            self._examine_file(target, stat)
        else:
            with contextlib.suppress(RootUnavailable):  # deletes nothing; the next scan reports it
                self._compare_below(target, list_files(collection.root, path, self._data))

    def _examine_file(self, target: CollectionPath, stat: FileStat) -> None:
        collection, path = target
        try:
            is_wanted = is_indexable(collection.root, path)
        except OSError:  # an ignore file cannot be read for now: the document stays until it can
            self._schedule.retry_soon(collection)
            return
        if is_wanted:
            self._queue.mark_touched(target)
        self._compare_below(target, Listing([(path, stat)] if is_wanted else [], [], []))

    def _compare_below(self, target: CollectionPath, listing: Listing) -> None:
        """Delete at most one document, and that only while the root is the same folder; a scan decides about more."""
        collection, path = target
        known = self._store.known_documents(collection.id, path)
        deleted_paths = without_file(listing, known)
        if len(deleted_paths) > 1 or (deleted_paths and not self._is_same_root(collection)):
            self._schedule.scan_soon(collection)
            deleted_paths = set()
        for file, _ in self._apply(collection, listing, known, deleted_paths):
            self._queue.add(CollectionPath(collection, file), front=True)

    def _is_same_root(self, collection: FollowedCollection) -> bool:
        """Return whether the root is the folder that the last full scan saw."""
        try:
            return folder_identity(collection.root) == self._store.identity(collection.id)
        except OSError:
            return False

    def _apply(
        self, collection: FollowedCollection, listing: Listing, known: dict[str, KnownDocument], deleted_paths: set[str]
    ) -> list[tuple[str, FileStat]]:
        """Delete the documents of `deleted_paths` and mark the files that must be read pending; return these files."""
        touched_paths = self._queue.touched_paths(collection)
        changed_files = [
            (path, stat) for path, stat in listing.files if path in touched_paths or _is_changed(stat, known.get(path))
        ]
        if deleted_paths:
            self._store.remove(collection.id, deleted_paths)
        if changed_files:
            self._store.mark_pending(collection.id, changed_files)
        return changed_files

    def _queue_changed(
        self, collection: FollowedCollection, changed_files: list[tuple[str, FileStat]], *, is_settling: bool
    ) -> None:
        settled_ns = time.time_ns() - int(self._settle_s * 1e9)
        latest_ns = settled_ns + int(MAX_UNSETTLED_S * 1e9)  # a later time is a wrong clock's, and no reason to wait
        now = time.monotonic()
        for path, stat in changed_files:
            file = CollectionPath(collection, path)
            if is_settling and settled_ns < stat.ctime_ns <= latest_ns:
                self._settling.add(file, now)
            else:
                self._queue.add(file)


def _is_changed(stat: FileStat, known: KnownDocument | None) -> bool:
    """Return whether a file is new, differs from what is known of it, or still waits to be read."""
    return known is None or known.stat != stat or known.state == "pending"
