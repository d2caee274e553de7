"""Keeps the index equal to the watched folders. The only writer.

Hints from the watcher name paths; a path is looked at once nothing has touched it for a moment. Scans look at
everything: at the start, every so often, after a burst of hints, where a folder seems to be gone, and often where there
are no hints. Only a scan deletes more than one document, and not many at once. What either finds is
marked pending in the database first, so that a crash loses no work, then read, chunked, embedded and committed, a few
documents at a time; between two groups new hints are taken, so a fresh save never waits for a long import.
"""

import contextlib
import errno
import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from index.dense.compaction import Compaction, is_stale
from index.errors import RootUnavailable, StorageError, StorageFull, StorageUnavailable, UnreadableDocument
from index.ingest.chunker import Chunker
from index.ingest.commands import Command, Follow, Pause, Rescan
from index.ingest.files import (
    Listing,
    identity,
    is_empty,
    is_hidden,
    is_meant,
    is_nameable,
    list_files,
    read_file,
    stat_file,
)
from index.ingest.ignore_rules import IGNORE_FILE
from index.ingest.long_texts import embed_long_texts
from index.ingest.progress import Progress, ProgressReporter, Switch
from index.ingest.space import SpaceUpkeep
from index.ingest.watcher import Watcher, has_events
from index.lexical.upkeep import LexicalUpkeep
from index.reading import readers
from index.storage.sqlite.writer import DocumentWriter, FileStat, KnownDocument, content_hash, embedded_text
from index.types import Chunk, Collection, DocumentEmbedder, Parsed
from index.uploads import UPLOADS, UploadPath

_log = logging.getLogger(__name__)

CHUNK_TOKENS = 128  # where neither the settings nor the embedding model say otherwise
_SMALLEST_CHUNK = 16  # tokens; a single character can take several
_GROUP = 16  # documents read and embedded together
_BURST = 1000  # hints at once that make a scan the cheaper answer
_QUIET_S = 2.0  # without work before a generation is written
_MAX_UNSETTLED_S = 5.0  # a file that is written to without end is looked at this often all the same
_SCAN_SHARE = 0.01  # at most this share of the time goes into periodic scans
_POLL_S, _POLL_SHARE = 2.0, 0.05  # the same of folders without events, and the least between two scans of them
_RETRY_EVENTS_S = 300.0  # after the system refused to tell events
_RETRY_WRITING_S = 2.0  # after the database could not be written: a full disk may have room again
_RETRY_READING_S = 5.0  # after a file could not be read for a reason that passes
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT})
_FEW = 50  # documents that may always go at once
_CLOCK_STEP_NS = 20_000_000  # a file changed this soon before it was read may change again under the same time
_HEADING_TOKENS = 80  # kept free for the headings that are embedded with a chunk
# Tokenizers that count these alike cut documents alike, as far as it matters.
_COUNTED = (
    "Parental leave is sixteen weeks with full pay, for mothers and fathers alike.",
    "Die Kündigungsfrist beträgt drei Monate zum Monatsende. Привет! 会议定于星期三上午十点在二楼举行。",
    "def area(radius: float) -> float:\n    return math.pi * radius**2",
)
_UNKNOWN = FileStat(-1, -1)  # of a file that could not be read: no scan will find it unchanged


class IndexingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How folders become an index."""

    settle_s: Annotated[float, Meta(ge=0, le=60, description="seconds a file must rest before it is read")] = 0.4
    scan_interval_s: Annotated[
        float, Meta(gt=0, description="seconds between full scans, longer for large folders")
    ] = 60
    watch: Annotated[
        Literal["auto", "events", "poll"],
        Meta(description="how changes are noticed: events, poll, or auto: poll on network file systems"),
    ] = "auto"
    hold_deletions_s: Annotated[
        float,
        Meta(ge=0, description="seconds documents are kept when most of a folder's files are gone at once"),
    ] = 3600
    max_bytes: Annotated[int, Meta(gt=0, description="size of the largest file that is read")] = 20_000_000
    chunk_tokens: Annotated[int, Meta(ge=0, le=8192, description="size of a chunk; 0: what suits the embedder")] = 0
    num_threads: Annotated[int, Meta(ge=1, le=1024, description="threads that embed documents")] = 1

    def __post_init__(self) -> None:
        if 0 < self.chunk_tokens < _SMALLEST_CHUNK:
            raise ValueError(f"chunk_tokens must be 0 or at least {_SMALLEST_CHUNK}")


class Item(NamedTuple):
    """A file to look at."""

    collection: str
    path: str  # below the root, with /


class _Prepared(NamedTuple):
    item: Item
    stat: FileStat
    sha256: str
    title: str | None
    chunks: list[Chunk]
    note: str | None


class Indexer:
    """Owns the writer. Runs on the thread that calls `run`.

    `read` makes text of a path and content; what it raises, `UnreadableDocument` and a parser's own errors, is that
    file's failure. `report` is told what is being done.
    """

    def __init__(
        self,
        collections: Sequence[Collection],
        writer: DocumentWriter,
        embedder: DocumentEmbedder,
        params: IndexingParams,
        data: Path,
        read: Callable[[str, bytes], Parsed],
        report: Callable[[Progress], None] = lambda _: None,
        origin: str = "",
    ) -> None:
        """`origin`: kept with the vectors, for whoever must find the embedder of their space again."""
        self._read = read
        self._writer = writer
        self._embedder = embedder
        self._params = params
        self._data = data.resolve()  # never indexed, should it lie in a watched folder
        limit = min(params.chunk_tokens or CHUNK_TOKENS, embedder.max_tokens - _HEADING_TOKENS)
        self._chunker = Chunker(embedder.count_tokens, max(limit, _SMALLEST_CHUNK))
        self._progress = ProgressReporter(report)
        self._roots: dict[str, Path] = {}
        self._ids: dict[str, int] = {}
        self._work: OrderedDict[Item, None] = OrderedDict()  # the front is next
        self._unsettled: dict[Item, tuple[float, float]] = {}  # first and last hint, monotonic seconds
        self._touched: set[Item] = set()  # named by a hint since they were read
        self._scan_at: dict[str, float] = {}  # when each collection is scanned next, monotonic seconds
        self._holding: set[str] = set()  # collections of which documents are kept although their files are gone
        self._accepting: set[str] = set()  # collections of which they may go at the next scan
        self._linked: set[str] = set()  # collections of which links hide events
        self._watched: list[tuple[Path, str]] = []
        self._with_events: list[Path] = []  # roots that should be watched; those that exist are
        self._events_at = 0.0  # when events are tried again, after the system refused them
        self._is_paused = writer.is_paused()
        self._follow_roots({collection.name: collection.root for collection in collections})
        counted = "/".join(str(embedder.count_tokens(text)) for text in _COUNTED)
        self._chunking = f"{limit} tokens, as of {counted}, readers {readers.VERSION}"
        self._lexical = LexicalUpkeep(writer.connection, data)
        self._space = SpaceUpkeep(writer, data, embedder, origin)
        if not self._space.is_building:
            writer.invalidate_other_chunking(self._chunking)
        self._compaction = Compaction(data, embedder.fingerprint, embedder.dimension, writer.database_id())
        self._has_snapshot = False  # of the space being made: readers need not make one themselves

    def run(self, stop: Event, orders: Callable[[], Iterable[Command]] = tuple) -> None:
        """Until `stop` is set, doing what `orders` says whenever it is asked.

        Errors of single files become rows; a database that cannot be written is tried again; others end the process,
        which is restarted.
        """
        if not self._space.is_building:
            self._writer.invalidate_unembedded(self._embedder.fingerprint)
        with contextlib.closing(self):
            while not stop.is_set():
                self._with_events = self._roots_with_events()
                self._watched = _identities(self._with_events)
                with Watcher(root for root, _ in self._watched) as watcher:
                    self._run_watched(watcher, stop, orders)
                    if watcher.has_failed:
                        self._events_at = time.monotonic() + _RETRY_EVENTS_S

    def close(self) -> None:
        """Ends what runs beside; the writer stays open."""
        self._lexical.close()
        self._compaction.close()

    def _follow_roots(self, roots: dict[str, Path]) -> None:
        kept = {name for name, root in self._roots.items() if roots.get(name) == root}
        self._work = OrderedDict.fromkeys(item for item in self._work if item.collection in kept)
        self._unsettled = {item: hints for item, hints in self._unsettled.items() if item.collection in kept}
        self._roots = roots
        self._ids = self._writer.configure([Collection(name, root) for name, root in roots.items()])
        self._scan_at = dict.fromkeys(roots, 0.0)
        self._with_events = self._roots_with_events()

    def _roots_with_events(self) -> list[Path]:
        if self._params.watch == "poll" or time.monotonic() < self._events_at:
            return []
        self._events_at = 0.0
        return [root for root in self._roots.values() if self._params.watch == "events" or has_events(root)]

    def _run_watched(self, watcher: Watcher, stop: Event, orders: Callable[[], Iterable[Command]]) -> None:
        """Until `stop` is set, or the folders must be watched anew: one came, went or was replaced."""
        self._linked.clear()
        self._scan_soon(*self._roots)
        is_watching = watcher.is_ready
        last_work = time.monotonic()
        while not stop.is_set() and watcher.is_alive and self._is_watched_rightly():
            for order in orders():
                self._handle(order)
            if self._is_paused:
                self._progress.tell("paused")
                watcher.take(0.5)  # the scan at the end finds what it says
                continue
            if watcher.is_ready and not is_watching:
                is_watching = True
                self._scan_soon(*self._roots)  # what was saved before the watch was set
            try:
                self._scan_due()
                is_busy = self.index_words() or self.follow_embedder() or bool(self._work)
                hints = watcher.take(0 if is_busy else self._poll_timeout())
                if hints & {root for root, _ in self._watched}:  # its watch may be gone, though its inode be used again
                    return
                self._note(hints)
                if self._examine_settled() + self.work():
                    last_work = time.monotonic()
                self._progress.note_backlog(bool(self._work or self._unsettled))
                if not self._work:
                    self._progress.tell("embedding" if self._space.is_building else "idle")
                self._compact(is_quiet=time.monotonic() - last_work > _QUIET_S)
            except (StorageFull, StorageUnavailable) as error:
                self._wait_to_write(error, stop)

    def _is_watched_rightly(self) -> bool:
        is_to_retry = 0 < self._events_at <= time.monotonic()
        return not is_to_retry and _identities(self._with_events) == self._watched

    def _wait_to_write(self, error: StorageError, stop: Event) -> None:
        """What was being done is still pending in the database; a scan finds it there."""
        reason = f"the index cannot be written: {error}"
        _log.warning("%s; trying again", reason)
        self._progress.tell("waiting", error=reason)
        self._work.clear()
        stop.wait(_RETRY_WRITING_S)
        self._scan_soon(*self._roots)

    def _handle(self, order: Command) -> None:
        match order:
            case Follow(roots=roots):
                self._follow_roots({name: Path(root) for name, root in roots.items()})
            case Pause(is_paused=is_paused):
                self._writer.pause(is_paused)
                self._is_paused = is_paused
                self._scan_soon(*self._roots)
            case Rescan(collection=collection, accept_deletions=accept_deletions, path=path):
                names = [name for name in self._roots if collection in (None, name)]
                for name in names:
                    self._writer.retry_failed(self._ids[name], path)
                self._accepting.update(names if accept_deletions else ())
                self._scan_soon(*names)

    def _poll_timeout(self) -> float:
        """Seconds to wait for a hint; short enough to see `stop`."""
        now = time.monotonic()
        settled = min((last for _, last in self._unsettled.values()), default=now + 0.5) + self._params.settle_s
        return max(0.02, min(settled - now, min(self._scan_at.values(), default=now + 0.5) - now, 0.5))

    def _note(self, paths: set[Path]) -> None:
        now = time.monotonic()
        if len(paths) > _BURST:  # some were lost, perhaps; and a scan is the cheaper answer
            self._scan_soon(*self._roots, delay_s=self._params.settle_s)
            return
        for path in paths:
            is_own = path.is_relative_to(self._data)
            real = path.parent.resolve() / path.name
            if (real != path or path.is_symlink()) and not is_own:
                self._poll_linked(path)
            for collection, root in self._roots.items():
                if real.is_relative_to(root) and (not is_own or collection == UPLOADS):
                    self._hint(Item(collection, real.relative_to(root).as_posix()), now)

    def _hint(self, item: Item, now: float) -> None:
        if is_hidden(item.path) and not item.path.endswith(IGNORE_FILE):
            return
        first, _ = self._unsettled.get(item, (now, now))
        self._unsettled[item] = first, now
        if item.collection in self._holding:  # the files may be coming back
            self._scan_soon(item.collection, delay_s=self._params.settle_s)

    def _poll_linked(self, link: Path) -> None:
        """Folders that a link leads to are watched under one of their names only, and not at all when the link goes:
        the collections concerned are scanned often."""
        target = link.resolve()
        for collection, root in self._roots.items():
            is_concerned = link.is_relative_to(root) or target.is_relative_to(root) or root.is_relative_to(target)
            if is_concerned and collection not in self._linked:
                self._linked.add(collection)
                self._scan_soon(collection)

    def _examine_settled(self) -> int:
        now = time.monotonic()
        settled = [
            item
            for item, (first, last) in self._unsettled.items()
            if now - last >= self._params.settle_s or now - first >= _MAX_UNSETTLED_S
        ]
        for item in settled:
            del self._unsettled[item]
            self._examine(item)
        return len(settled)

    def _examine(self, item: Item) -> None:
        """Compares one path, a file or a folder and all below it, with what is known of it."""
        (collection, path), root = item, self._roots[item.collection]
        if not is_nameable(path):
            return
        if path == IGNORE_FILE or path.endswith(f"/{IGNORE_FILE}"):
            self._scan_soon(collection)
        elif is_hidden(path):
            return
        elif found := stat_file(root, path):
            try:
                listing = Listing([(path, found)] if is_meant(root, path) else [], [], [])
            except OSError:  # nothing is known of it for now, least of all that it is to go
                self._scan_soon(collection, delay_s=_RETRY_READING_S)
                return
            self._touched.update(Item(collection, path) for path, _ in listing.files)  # whatever its stat says
            self._compare_below(item, listing)
        else:
            with contextlib.suppress(RootUnavailable):  # deletes nothing; the next scan says so
                self._compare_below(item, list_files(root, path, self._data))

    def _compare_below(self, item: Item, listing: Listing) -> None:
        """One document may go at once, if its root is the folder it was; where more have gone, a scan decides."""
        collection, path = item
        known = self._writer.known(self._ids[collection], path)
        gone = _gone(listing, known)
        if len(gone) > 1 or (gone and not self._is_same_root(collection)):
            self._scan_soon(collection)
            gone = set()
        self._apply(collection, listing, known, gone, front=True)

    def _is_same_root(self, collection: str) -> bool:
        try:
            return identity(self._roots[collection]) == self._writer.identity(self._ids[collection])
        except OSError:
            return False

    def _scan_soon(self, *collections: str, delay_s: float = 0.0) -> None:
        for collection in collections:
            at = time.monotonic() + delay_s
            self._scan_at[collection] = min(self._scan_at.get(collection, at), at)

    def _scan_due(self) -> None:
        for collection in [name for name, at in self._scan_at.items() if at <= time.monotonic()]:
            started = time.monotonic()
            self._scan(collection, is_settling=True)
            now = time.monotonic()
            if collection not in self._linked and any(root == self._roots[collection] for root, _ in self._watched):
                pause = max(self._params.scan_interval_s, (now - started) / _SCAN_SHARE)
            else:
                pause = max(min(_POLL_S, self._params.scan_interval_s), (now - started) / _POLL_SHARE)
            self._scan_at[collection] = now + pause

    def scan(self) -> None:
        """Compares every watched folder with what is known of it."""
        for collection in self._roots:
            self._scan(collection)

    def _scan(self, collection: str, *, is_settling: bool = False) -> None:
        """With `is_settling`, files that were changed a moment ago are left alone until they have rested."""
        root, collection_id = self._roots[collection], self._ids[collection]
        self._progress.tell("scanning", collection)
        try:
            its_identity = identity(root)
            listing = list_files(root, excluded=self._data)
            known = self._writer.known(collection_id)
            gone = self._confirm_deletions(collection, listing, known, its_identity)
        except RootUnavailable as error:
            _log.warning("%s", error)
            self._writer.note_scan(collection_id, error.reason)
            return
        except OSError as error:
            self._writer.note_scan(collection_id, error.strerror or str(error))
            return
        for link in listing.links:
            self._poll_linked(root / link)
        self._apply(collection, listing, known, gone, front=False, is_settling=is_settling)
        self._writer.note_scan(collection_id, None, None if collection in self._holding else its_identity)

    def _confirm_deletions(
        self, collection: str, listing: Listing, known: dict[str, KnownDocument], its_identity: str
    ) -> set[str]:
        """Those of which the files are gone; without them, while it may be the disk that is gone."""
        root, collection_id = self._roots[collection], self._ids[collection]
        gone, before = _gone(listing, known), self._writer.identity(collection_id)
        if collection == UPLOADS:  # only Cloister removes them, and means it
            return gone
        present = {_traits(stat) for _, stat in listing.files}
        is_other_and_empty = bool(gone) and before not in (None, its_identity) and is_empty(root)
        if is_other_and_empty or (before is not None and len(gone) >= max(_FEW, len(known) / 2 + 1)):
            missing = {
                path for path in gone if _traits(known[path].stat) not in present and not os.path.lexists(root / path)
            }
        else:
            missing = set()
        is_held = (is_other_and_empty or len(missing) >= max(_FEW, len(known) / 2 + 1)) and bool(missing)
        if collection in self._accepting:
            self._accepting.discard(collection)
            is_held = False
        if is_held:
            is_held = self._writer.note_missing(collection_id, len(missing)) < self._params.hold_deletions_s
        if is_held:
            self._holding.add(collection)
            return gone - missing
        self._writer.note_missing(collection_id, 0)
        self._holding.discard(collection)
        return gone

    def _apply(
        self,
        collection: str,
        listing: Listing,
        known: dict[str, KnownDocument],
        gone: set[str],
        *,
        front: bool,
        is_settling: bool = False,
    ) -> None:
        collection_id = self._ids[collection]
        changed = [
            (path, found)
            for path, found in listing.files
            if self._is_due(Item(collection, path), found, known.get(path))
        ]
        if gone:
            self._writer.remove(collection_id, gone)
        if changed:
            self._writer.mark_pending(collection_id, changed)
        rested_ns = time.time_ns() - int(self._params.settle_s * 1e9)
        now = time.monotonic()
        for path, found in changed:
            item = Item(collection, path)
            if is_settling and rested_ns < found.ctime_ns <= rested_ns + int(_MAX_UNSETTLED_S * 1e9):
                self._unsettled.setdefault(item, (now, now))
                continue
            self._work[item] = None
            if front:
                self._work.move_to_end(item, last=False)

    def _is_due(self, item: Item, found: FileStat, known: KnownDocument | None) -> bool:
        is_known = known is not None and known.stat == found and known.state != "pending"
        return not is_known or item in self._touched

    def work(self) -> int:
        """Reads, embeds and commits the next few pending documents; how many."""
        group = [self._work.popitem(last=False)[0] for _ in range(min(_GROUP, len(self._work)))]
        if group:
            self._embed_and_commit(list(self._prepare(group)))
        return len(group)

    def index_words(self) -> bool:
        """Lets the lexical index follow what was committed; whether it has more to do at once."""
        return self._lexical.advance()

    def follow_embedder(self) -> bool:
        """Makes the embedder's space the one that is searched, should it be another; whether there is more to do at
        once. Documents are cut as suits it only then: until then, their chunks have vectors in the space before."""
        if not self._space.is_building:
            return self._space.sweep()
        if self._space.embed():
            self._progress.note_switch(Switch(self._space.done, self._space.total))
            return True
        if not self._has_snapshot:
            self._has_snapshot = True
            self._compaction.start()
        if self._compaction.is_running:
            return False
        self._forget(self._compaction.finished())
        self._space.switch()
        self._progress.note_switch(None)
        self._writer.invalidate_other_chunking(self._chunking)
        self._scan_soon(*self._roots)
        return True

    def _prepare(self, group: list[Item]) -> Iterator[_Prepared]:
        """Read and chunked. Files that cannot be, or need not be, are dealt with here."""
        unchanged = []
        for item in group:
            root, collection_id = self._roots[item.collection], self._ids[item.collection]
            self._progress.tell("indexing", *item)
            self._touched.discard(item)
            seen = stat_file(root, item.path) or _UNKNOWN
            try:
                content, found = read_file(root, item.path, self._params.max_bytes)
                if time.time_ns() - found.ctime_ns < _CLOCK_STEP_NS:
                    found = found._replace(ctime_ns=0)  # the next scan looks again
                sha256 = hashlib.sha256(content).hexdigest()
                known = self._writer.known(collection_id, item.path).get(item.path)
                if known is not None and known.sha256 == sha256:
                    unchanged.append((collection_id, item.path, found))
                    continue
                parsed = self._read(item.path, content)
                note = "; ".join(parsed.notes) or None
                yield _Prepared(item, found, sha256, parsed.title, self._chunks(item, parsed), note)
            except FileNotFoundError:
                self._examine(item)  # gone, or its whole root is
            except OSError as error:
                self._writer.fail(collection_id, item.path, _UNKNOWN, error.strerror or str(error))
                if error.errno in _PASSING:
                    self._scan_soon(item.collection, delay_s=_RETRY_READING_S)
            except UnreadableDocument as error:
                self._writer.fail(collection_id, item.path, seen, error.reason)
            except (ValueError, RecursionError, LookupError) as error:  # a reader tripped over one file: a row, no more
                reason = f"it could not be read ({type(error).__name__}: {error})"
                self._writer.fail(collection_id, item.path, seen, reason)
        if unchanged:
            self._writer.mark_unchanged(unchanged)

    def _chunks(self, item: Item, parsed: Parsed) -> list[Chunk]:
        upload = UploadPath.read(item.path) if item.collection == UPLOADS else None
        return self._chunker.chunks(parsed, upload and upload.chunking)

    def _embed_and_commit(self, group: list[_Prepared]) -> None:
        fingerprint = self._embedder.fingerprint
        texts = {
            content_hash(chunk): embedded_text(chunk.heading, chunk.shown)
            for document in group
            for chunk in document.chunks
        }
        missing = list(self._writer.missing_vectors(texts, fingerprint))
        if missing:
            vectors = embed_long_texts(self._embedder, [texts[hash] for hash in missing])
            self._writer.store_vectors(fingerprint, missing, vectors)
        for item, found, sha256, title, chunks, note in group:
            self._writer.replace(self._ids[item.collection], item.path, found, sha256, title, chunks, note)
            self._progress.note_done(found.size)

    def _compact(self, *, is_quiet: bool) -> None:
        """Sees that readers never have much to replay, nor much beside their base."""
        if self._space.is_building:  # what is written would be a part
            return
        self._forget(self._compaction.finished())
        num_changes = self._writer.last_change() - self._compaction.seq
        if is_stale(num_changes, self._compaction.count, at_work=not is_quiet):
            self._compaction.start()

    def write_generation(self) -> None:
        """Snapshots the vectors for the next start, if anything has changed."""
        if self._writer.last_change() != self._compaction.seq:
            self._compaction.start()
            self._forget(self._compaction.finished(wait=True))

    def _forget(self, seq: int | None) -> None:
        """What only the generation before the last two needs."""
        if seq is not None:
            lexical_seq = self._lexical.seq
            self._writer.trim_changes(seq if lexical_seq is None else min(seq, lexical_seq))
            if not (self._work or self._unsettled):  # else what was moved may be between its two places
                self._writer.forget_unused_vectors()


def _traits(stat: FileStat) -> tuple[int, int, int]:
    """What stays when a file is moved; the inode alone may be that of another file by now."""
    return stat.inode, stat.size, stat.mtime_ns


def _gone(listing: Listing, known: dict[str, KnownDocument]) -> set[str]:
    """Known documents without a wanted file. Of what could not be listed, nothing is known."""
    gone = known.keys() - {path for path, _ in listing.files}
    if "" in listing.unlisted:
        return set()
    out_of_sight = tuple(f"{folder}/" for folder in listing.unlisted)
    return {path for path in gone if not path.startswith(out_of_sight)} if out_of_sight else set(gone)


def _identities(roots: Iterable[Path]) -> list[tuple[Path, str]]:
    """The roots that exist: a folder made anew must be watched anew."""
    found = []
    for root in roots:
        try:
            found.append((root, identity(root)))
        except OSError:
            continue
    return found
