"""Keeps the index equal to the watched folders. The only writer.

Hints from the watcher name paths; a path is looked at once nothing has touched it for a moment. Scans look at
everything: at the start, every so often, after a burst of hints and whenever watching failed. What either finds is
marked pending in the database first, so that a crash loses no work, then read, chunked, embedded and committed, a few
documents at a time; between two groups new hints are taken, so a fresh save never waits for a long import.
"""

import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from index import readers
from index.chunker import Chunker
from index.compaction import Compaction, is_stale
from index.documents import DocumentWriter, FileStat, KnownDocument, content_hash, embedded_text
from index.errors import RootUnavailable, UnreadableDocument
from index.files import Listing, is_nameable, is_wanted, list_files, read_file, stat_file
from index.lexical.upkeep import LexicalUpkeep
from index.types import Chunk, Collection, DocumentEmbedder, Parsed
from index.watcher import Watcher

_log = logging.getLogger(__name__)

_SMALLEST_CHUNK = 16  # tokens; a single character can take several
_GROUP = 16  # documents read and embedded together
_BURST = 1000  # hints at once that make a scan the cheaper answer
_QUIET_S = 2.0  # without work before a generation is written
_MAX_UNSETTLED_S = 5.0  # a file that is written to without end is looked at this often all the same
_SCAN_SHARE = 0.01  # at most this share of the time goes into periodic scans
_HEADING_TOKENS = 80  # kept free for the headings that are embedded with a chunk
_UNKNOWN = FileStat(-1, -1)  # of a file that could not be read: no scan will find it unchanged


class IndexingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How folders become an index."""

    settle_s: Annotated[float, Meta(ge=0, le=60, description="seconds a file must rest before it is read")] = 0.4
    scan_interval_s: Annotated[
        float, Meta(gt=0, description="seconds between full scans, longer for large folders")
    ] = 60
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
    file's failure.
    """

    def __init__(
        self,
        collections: Sequence[Collection],
        writer: DocumentWriter,
        embedder: DocumentEmbedder,
        params: IndexingParams,
        data: Path,
        read: Callable[[str, bytes], Parsed],
    ) -> None:
        self._read = read
        self._roots = {collection.name: collection.root for collection in collections}
        self._root_paths = set(self._roots.values())
        self._writer = writer
        self._embedder = embedder
        self._params = params
        self._ids = writer.configure(collections)
        limit = min(params.chunk_tokens or 128, embedder.max_tokens - _HEADING_TOKENS)
        self._chunker = Chunker(embedder.count_tokens, max(limit, _SMALLEST_CHUNK))
        writer.distrust_other_chunking(f"{limit} tokens, readers {readers.VERSION}")
        self._lexical = LexicalUpkeep(writer.connection, data)
        self._compaction = Compaction(data, embedder.fingerprint, embedder.dimension, writer.database_id())
        self._work: OrderedDict[Item, None] = OrderedDict()  # the front is next
        self._unsettled: dict[Item, tuple[float, float]] = {}  # first and last hint, monotonic seconds
        self._touched: set[Item] = set()  # named by a hint since they were read
        self._watched: list[tuple[Path, int]] = []

    def run(self, stop: Event) -> None:
        """Until `stop` is set. Errors of single files become rows; others end the process, which is restarted."""
        self._writer.distrust_unembedded(self._embedder.fingerprint)
        with contextlib.closing(self):
            while not stop.is_set():
                self._watched = _identities(self._roots.values())
                with Watcher(root for root, _ in self._watched) as watcher:
                    self._follow(watcher, stop)

    def close(self) -> None:
        """Ends what runs beside; the writer stays open."""
        self._lexical.close()
        self._compaction.close()

    def _follow(self, watcher: Watcher, stop: Event) -> None:
        """Until `stop` is set, or the folders must be watched anew: one came, went or was replaced."""
        next_scan = last_work = time.monotonic()
        is_watching = watcher.is_ready
        while not stop.is_set() and watcher.is_alive and _identities(self._roots.values()) == self._watched:
            now = time.monotonic()
            if watcher.is_ready and not is_watching:
                is_watching, next_scan = True, now  # what was saved before the watch was set
            if now >= next_scan:
                self.scan()
                next_scan = now + max(self._params.scan_interval_s, (time.monotonic() - now) / _SCAN_SHARE)
            is_busy = self.index_words() or bool(self._work)
            hints = watcher.take(0 if is_busy else self._patience(now, next_scan))
            if hints & self._root_paths:  # a root itself: its watch may be gone, though its inode be used again
                return
            if len(hints) > _BURST:
                next_scan = 0
            self._note(hints)
            if self._examine_settled() + self.work():
                last_work = time.monotonic()
            self._compact(is_quiet=time.monotonic() - last_work > _QUIET_S)

    def _patience(self, now: float, next_scan: float) -> float:
        """Seconds to wait for a hint; short enough to see `stop`."""
        settled = min((last for _, last in self._unsettled.values()), default=now + 0.5) + self._params.settle_s
        return max(0.02, min(settled - now, next_scan - now, 0.5))

    def _note(self, paths: Iterable[Path]) -> None:
        now = time.monotonic()
        for path in paths:
            for collection, root in self._roots.items():
                if path.is_relative_to(root):
                    item = Item(collection, path.relative_to(root).as_posix())
                    first, _ = self._unsettled.get(item, (now, now))
                    self._unsettled[item] = first, now

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
        root, below = self._roots[item.collection], item.path
        if not is_nameable(below):
            return
        if found := stat_file(root, below):
            listing = Listing([(below, found)] if is_wanted(below) else [], [])
            self._touched.update(Item(item.collection, path) for path, _ in listing.files)  # whatever its stat says
        elif any(part.startswith(".") for part in below.split("/")):
            listing = Listing([], [])
        else:
            try:
                listing = list_files(root, below)
            except RootUnavailable:
                return  # deletes nothing; the next scan says so
        self._compare(item.collection, listing, self._writer.known(self._ids[item.collection], below), front=True)

    def scan(self) -> None:
        """Compares every watched folder with what is known of it."""
        for collection, root in self._roots.items():
            collection_id = self._ids[collection]
            try:
                listing = list_files(root)
            except RootUnavailable as error:
                _log.warning("%s", error)
                self._writer.note_scan(collection_id, error.reason)
                continue
            self._compare(collection, listing, self._writer.known(collection_id), front=False)
            self._writer.note_scan(collection_id, None)

    def _compare(self, collection: str, listing: Listing, known: dict[str, KnownDocument], *, front: bool) -> None:
        collection_id = self._ids[collection]
        changed = [
            (path, found)
            for path, found in listing.files
            if self._is_due(Item(collection, path), found, known.get(path))
        ]
        out_of_sight = tuple(f"{folder}/" for folder in listing.unlisted)
        gone = {path for path in known if not path.startswith(out_of_sight)} - {path for path, _ in listing.files}
        if gone:
            self._writer.remove(collection_id, gone)
        if changed:
            self._writer.mark_pending(collection_id, changed)
        for path, _ in changed:
            item = Item(collection, path)
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

    def _prepare(self, group: list[Item]) -> Iterator[_Prepared]:
        """Read and chunked. Files that cannot be, or need not be, are dealt with here."""
        for item in group:
            root, collection_id = self._roots[item.collection], self._ids[item.collection]
            self._touched.discard(item)
            seen = stat_file(root, item.path) or _UNKNOWN
            try:
                content, found = read_file(root, item.path, self._params.max_bytes)
                sha256 = hashlib.sha256(content).hexdigest()
                known = self._writer.known(collection_id, item.path).get(item.path)
                if known is not None and known.sha256 == sha256:
                    self._writer.settle_unchanged(collection_id, item.path, found)
                    continue
                parsed = self._read(item.path, content)
                note = "; ".join(parsed.notes) or None
                yield _Prepared(item, found, sha256, parsed.title, self._chunker.chunks(parsed), note)
            except FileNotFoundError:
                self._examine(item)  # gone, or its whole root is
            except OSError as error:
                self._writer.fail(collection_id, item.path, _UNKNOWN, error.strerror or str(error))
            except UnreadableDocument as error:
                self._writer.fail(collection_id, item.path, seen, error.reason)
            except (ValueError, RecursionError, LookupError) as error:  # a reader tripped over one file: a row, no more
                reason = f"it could not be read ({type(error).__name__}: {error})"
                self._writer.fail(collection_id, item.path, seen, reason)

    def _embed_and_commit(self, group: list[_Prepared]) -> None:
        fingerprint = self._embedder.fingerprint
        texts = {content_hash(chunk): embedded_text(chunk) for document in group for chunk in document.chunks}
        missing = list(self._writer.missing_vectors(texts, fingerprint))
        if missing:
            vectors = self._embedder.embed_documents([texts[hash] for hash in missing])
            self._writer.store_vectors(fingerprint, missing, vectors)
        for item, found, sha256, title, chunks, note in group:
            self._writer.replace(self._ids[item.collection], item.path, found, sha256, title, chunks, note)

    def _compact(self, *, is_quiet: bool) -> None:
        """Sees that readers never have much to replay, nor much beside their base."""
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
            self._writer.forget_unused_vectors()


def _identities(roots: Iterable[Path]) -> list[tuple[Path, int]]:
    """The roots that exist, each with its inode: a folder made anew must be watched anew."""
    found = []
    for root in roots:
        try:
            found.append((root, root.stat().st_ino))
        except OSError:
            continue
    return found
