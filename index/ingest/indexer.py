"""Keeps the index equal to the followed folders. The only writer.

1. The watcher names paths (hints). A path is examined once nothing has touched it for a moment (`SettleQueue`).
2. The `Scanner` compares collections with their folders when the `ScanSchedule` says so, often where the file system
   reports no events. What it finds changed is marked pending, so that a crash loses no work, and queued (`WorkQueue`).
3. The `Worker` reads, chunks, embeds and commits a few files. New hints are taken before the next few, so that a fresh
   save never waits for a long import.
4. `IndexUpkeep` lets the lexical index, the vector space and its snapshots follow.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Event

from index.errors import StorageError, StorageFull, StorageUnavailable
from index.ingest.chunker import Chunker
from index.ingest.chunking_rule import chunking_rule
from index.ingest.commands import Command, Follow, Pause, Rescan
from index.ingest.followed_collections import FollowedCollections
from index.ingest.progress import Progress, ProgressReporter
from index.ingest.scan_schedule import ScanSchedule
from index.ingest.scanner import Scanner
from index.ingest.settle_queue import SettleQueue
from index.ingest.upkeep import IndexUpkeep
from index.ingest.watched_roots import WatchedRoots
from index.ingest.watcher import Watcher
from index.ingest.work_queue import WorkQueue
from index.ingest.worker import Worker
from index.params import CHUNK_TOKENS, IndexingParams
from index.storage.base import DocumentStore
from index.types import Collection, DocumentEmbedder, ParsedDocument

_log = logging.getLogger(__name__)

_QUIET_S = 2.0  # without work before a snapshot of the vectors is written early
_IDLE_S = 0.5  # the longest wait for a hint, so that `stop` is seen
_RETRY_WRITING_S = 2.0  # after the database could not be written: a full disk may have room again


class Indexer:
    """Owns the collections and the queues, and runs all of it on the thread that calls `run`.

    `read` makes text of a path and its content; what it raises, `UnreadableDocument` and a parser's own errors, fails
    that file only. `report` receives the progress.
    """

    def __init__(
        self,
        collections: Sequence[Collection],
        store: DocumentStore,
        embedder: DocumentEmbedder,
        params: IndexingParams,
        data: Path,
        read: Callable[[str, bytes], ParsedDocument],
        report: Callable[[Progress], None] = lambda _: None,
        origin: str = "",
    ) -> None:
        """`origin` is kept with the vectors, for readers that must find the embedder of their space again."""
        data = data.resolve()
        self._store = store
        self._progress = ProgressReporter(report)
        self._collections = FollowedCollections(data)
        self._roots = WatchedRoots(params.watch)
        self._schedule = ScanSchedule(params.scan_interval_s)
        self._settling = SettleQueue(params.settle_s)
        self._queue = WorkQueue()
        self._scanner = Scanner(
            store, data, self._collections, self._schedule, self._settling, self._queue, self._progress,
            settle_s=params.settle_s, hold_deletions_s=params.hold_deletions_s,
        )  # fmt: skip
        rule = chunking_rule(params.chunk_tokens or CHUNK_TOKENS, embedder)
        chunker = Chunker(embedder.count_tokens, rule.limit)
        self._worker = Worker(store, embedder, read, chunker, self._queue, self._progress, params.max_bytes)
        self._is_paused = store.is_paused()
        self._last_work_at = 0.0  # monotonic seconds
        self._follow(collections)
        self.upkeep = IndexUpkeep(store, data, embedder, self._progress, chunking=rule.description, origin=origin)

    def run(self, stop: Event, receive_commands: Callable[[], Iterable[Command]] = tuple) -> None:
        """Index until `stop` is set, carrying out the commands that `receive_commands` returns.

        Errors of single files become rows. A database that cannot be written is tried again. Other errors are raised
        and end the process, which is restarted.
        """
        self.upkeep.invalidate_unembedded()
        with contextlib.closing(self):
            while not stop.is_set():
                with Watcher(self._roots.renew()) as watcher:
                    self._run_watched(watcher, stop, receive_commands)
                    if watcher.has_failed:
                        self._roots.postpone_events()

    def close(self) -> None:
        self.upkeep.close()

    def _run_watched(self, watcher: Watcher, stop: Event, receive_commands: Callable[[], Iterable[Command]]) -> None:
        """Index until `stop` is set, or until the roots must be watched anew: one came, went or was replaced."""
        self._schedule.stop_polling()
        self._scan_all_soon()
        was_ready = watcher.is_ready
        self._last_work_at = time.monotonic()
        while not stop.is_set() and watcher.is_alive and self._roots.are_current():
            for command in receive_commands():
                self.handle(command)
            if self._is_paused:
                self._progress.report("paused")
                watcher.take(_IDLE_S)  # and drop the hints: the scan after the pause finds what they say
                continue
            if watcher.is_ready and not was_ready:
                was_ready = True
                self._scan_all_soon()  # files saved before the watch was set
            try:
                if not self._step(watcher):
                    return
            except (StorageFull, StorageUnavailable) as error:
                self._wait_to_write(error, stop)

    def _step(self, watcher: Watcher) -> bool:
        """Scan what is due, take hints, and work on a few files. Return False when a watched root was touched."""
        self._scanner.scan_due(self._roots)
        is_busy = self.upkeep.index_words() or self.follow_embedder() or bool(self._queue)
        hints = watcher.take(0 if is_busy else self._poll_timeout_s())
        if self._roots.are_among(hints):
            return False
        self._scanner.receive_hints(hints)
        if self._scanner.examine_settled() + self.work():
            self._last_work_at = time.monotonic()
        self._progress.note_backlog(self._has_backlog)
        if not self._queue:
            self._progress.report("embedding" if self.upkeep.is_building_space else "idle")
        self.upkeep.compact(is_quiet=time.monotonic() - self._last_work_at > _QUIET_S, has_backlog=self._has_backlog)
        return True

    def handle(self, command: Command) -> None:
        match command:
            case Follow(roots=roots):
                self._follow([Collection(name, Path(root)) for name, root in roots.items()])
            case Pause(is_paused=is_paused):
                self._store.pause(is_paused)
                self._is_paused = is_paused
                self._scan_all_soon()
            case Rescan(collections=names, accept_deletions=accept_deletions, path=path):
                self._scanner.rescan(self._collections.select(names), path, accept_deletions=accept_deletions)

    def scan(self) -> None:
        """Compare every folder with what is known of it, now."""
        for collection in self._collections:
            self._scanner.scan(collection)

    def work(self) -> int:
        """Read, embed and commit the next few pending files; return how many."""
        result = self._worker.work()
        for file in result.missing:
            self._scanner.examine(file)
        self._schedule.retry_soon(*result.retry)
        return result.num_files

    def follow_embedder(self) -> bool:
        """Let the vector space follow the embedder; return whether there is more to do at once."""
        was_building = self.upkeep.is_building_space
        is_busy = self.upkeep.follow_embedder(has_backlog=self._has_backlog)
        if was_building and not self.upkeep.is_building_space:
            self._scan_all_soon()  # documents cut for the other embedder are pending
        return is_busy

    def write_generation(self) -> None:
        """Write a snapshot of the vectors for the next start, if anything has changed since the last."""
        self.upkeep.write_generation(has_backlog=self._has_backlog)

    @property
    def _has_backlog(self) -> bool:
        return bool(self._queue or self._settling)

    def _follow(self, collections: Sequence[Collection]) -> None:
        """Follow these collections and no others. The work of those that stay with their roots goes on."""
        self._collections.follow(collections, self._store.configure(collections))
        self._queue.keep_only(self._collections)
        self._settling.keep_only(self._collections)
        self._schedule.follow(self._collections)
        self._roots.follow(collection.root for collection in self._collections)

    def _scan_all_soon(self) -> None:
        self._schedule.scan_soon(*self._collections)

    def _poll_timeout_s(self) -> float:
        """Return how long to wait for a hint: until a path has settled or a scan is due, and never long."""
        now = time.monotonic()
        times = (self._settling.next_settled_at(), self._schedule.next_at(), now + _IDLE_S)
        return max(0.02, min(at for at in times if at is not None) - now)

    def _wait_to_write(self, error: StorageError, stop: Event) -> None:
        """Wait until the database may be writable again. What was being done is pending in it; a scan finds it."""
        _log.warning("the index cannot be written: %s; trying again", error)
        self._progress.report("waiting", error=f"the index cannot be written: {error}")
        self._queue.clear()
        stop.wait(_RETRY_WRITING_S)
        self._scan_all_soon()
