"""Keeps the index equal to the watched folders. The only writer.

Hints from the watcher name paths; a path is looked at once nothing has touched it for a moment. Scans look at
everything: at the start, every so often, after a burst of hints and whenever watching failed. What either finds is
marked pending in the database first, so that a crash loses no work, then read, chunked, embedded and committed, a few
documents at a time; between two groups new hints are taken, so a fresh save never waits for a long import.
"""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from index import generations
from index.chunker import Chunker
from index.documents import DocumentWriter, FileStat, KnownDocument, content_hash, embedded_text
from index.errors import RootUnavailable, UnreadableDocument
from index.files import is_wanted, read_file, scan, stat_file
from index.readers import read
from index.retriever import vectors_folder
from index.types import Chunk, Collection, DocumentEmbedder
from index.vectors import serialize_flat
from index.watcher import Watcher

_log = logging.getLogger(__name__)

_GROUP = 16  # documents read and embedded together
_BURST = 1000  # hints at once that make a scan the cheaper answer
_QUIET_S = 2.0  # without work before a generation is written
_MAX_UNSETTLED_S = 5.0  # a file that is written to without end is looked at this often all the same
_SCAN_SHARE = 0.01  # at most this share of the time goes into periodic scans


class IndexingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How folders become an index."""

    settle_s: Annotated[float, Meta(ge=0, le=60, description="seconds a file must rest before it is read")] = 0.4
    scan_interval_s: Annotated[
        float, Meta(gt=0, description="seconds between full scans, longer for large folders")
    ] = 60
    max_bytes: Annotated[int, Meta(gt=0, description="size of the largest file that is read")] = 20_000_000
    chunk_tokens: Annotated[int, Meta(ge=0, le=8192, description="size of a chunk; 0: what suits the embedder")] = 0
    num_threads: Annotated[int, Meta(ge=1, le=1024, description="threads that embed documents")] = 1


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


class Indexer:
    """Owns the writer. Runs on the thread that calls `run`."""

    def __init__(
        self,
        collections: Sequence[Collection],
        writer: DocumentWriter,
        embedder: DocumentEmbedder,
        params: IndexingParams,
        data: Path,
    ) -> None:
        self._roots = {collection.name: collection.root for collection in collections}
        self._writer = writer
        self._embedder = embedder
        self._params = params
        self._ids = writer.configure(collections)
        self._chunker = Chunker(embedder.count_tokens, min(params.chunk_tokens or 128, embedder.max_tokens - 2))
        self._generations = vectors_folder(data, embedder.fingerprint)
        self._work: OrderedDict[Item, None] = OrderedDict()  # the front is next
        self._unsettled: dict[Item, tuple[float, float]] = {}  # first and last hint, monotonic seconds
        self._retry: set[Item] = set()  # the system would not let us read them: again at the next scan
        self._touched: set[Item] = set()  # named by a hint since they were read
        self._written_seq = 0
        self._watched: list[tuple[Path, int]] = []

    def run(self, stop: Event) -> None:
        """Until `stop` is set. Errors of single files become rows; others end the process, which is restarted."""
        self._writer.distrust_unembedded(self._embedder.fingerprint)
        while not stop.is_set():
            self._watched = _identities(self._roots.values())
            with Watcher(root for root, _ in self._watched) as watcher:
                self._follow(watcher, stop)
        self.write_generation()

    def _follow(self, watcher: Watcher, stop: Event) -> None:
        """Until `stop` is set, or other folders are to be watched."""
        next_scan = time.monotonic()
        last_work = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            if now >= next_scan:
                self.scan()
                next_scan = now + max(self._params.scan_interval_s, (time.monotonic() - now) / _SCAN_SHARE)
                if not watcher.is_alive or _identities(self._roots.values()) != self._watched:
                    return
            hints = watcher.take(0 if self._work else self._patience(now, next_scan))
            if len(hints) > _BURST:
                next_scan = 0
            self._note(hints)
            if self._examine_settled() + self.work():
                last_work = time.monotonic()
            elif time.monotonic() - last_work > _QUIET_S and self._is_generation_due():
                self.write_generation()

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
        root, below = self._roots[item.collection], "" if item.path == "." else item.path
        if below and (found := stat_file(root, below)):
            files = [(below, found)] if is_wanted(below) else []
            self._touched.update(Item(item.collection, path) for path, _ in files)  # whatever its size and time say
        elif any(part.startswith(".") for part in below.split("/")):
            files = []
        else:
            try:
                files = list(scan(root, below))
            except RootUnavailable:
                return  # deletes nothing; the next scan says so
        self._compare(item.collection, files, self._writer.known(self._ids[item.collection], below or None), front=True)

    def scan(self) -> None:
        """Compares every watched folder with what is known of it."""
        for collection, root in self._roots.items():
            collection_id = self._ids[collection]
            try:
                files = list(scan(root))
            except RootUnavailable as error:
                _log.warning("%s", error)
                self._writer.note_scan(collection_id, error.reason)
                continue
            self._compare(collection, files, self._writer.known(collection_id), front=False)
            self._writer.note_scan(collection_id, None)

    def _compare(
        self, collection: str, files: list[tuple[str, FileStat]], known: dict[str, KnownDocument], *, front: bool
    ) -> None:
        collection_id = self._ids[collection]
        changed = [
            (path, found) for path, found in files if self._is_due(Item(collection, path), found, known.get(path))
        ]
        gone = known.keys() - {path for path, _ in files}
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
        return not is_known or item in self._retry or item in self._touched

    def work(self) -> int:
        """Reads, embeds and commits the next few pending documents; how many."""
        group = [self._work.popitem(last=False)[0] for _ in range(min(_GROUP, len(self._work)))]
        if group:
            self._embed_and_commit(list(self._prepare(group)))
        return len(group)

    def _prepare(self, group: list[Item]) -> Iterator[_Prepared]:
        """Read and chunked. Files that cannot be, or need not be, are dealt with here."""
        for item in group:
            root, collection_id = self._roots[item.collection], self._ids[item.collection]
            self._retry.discard(item)
            self._touched.discard(item)
            try:
                content, found = read_file(root, item.path, self._params.max_bytes)
                sha256 = hashlib.sha256(content).hexdigest()
                known = self._writer.known(collection_id, item.path).get(item.path)
                if known is not None and known.sha256 == sha256:
                    self._writer.settle_unchanged(collection_id, item.path, found)
                    continue
                parsed = read(item.path, content)
                yield _Prepared(item, found, sha256, parsed.title, self._chunker.chunks(parsed))
            except FileNotFoundError:
                self._writer.remove(collection_id, [item.path])
            except OSError as error:
                self._retry.add(item)
                self._fail(item, error.strerror or str(error))
            except UnreadableDocument as error:
                self._fail(item, error.reason)
            except (ValueError, RecursionError, LookupError) as error:  # a reader tripped over one file: a row, no more
                self._fail(item, f"it could not be read ({type(error).__name__}: {error})")

    def _fail(self, item: Item, reason: str) -> None:
        found = stat_file(self._roots[item.collection], item.path) or FileStat(0, 0)
        self._writer.fail(self._ids[item.collection], item.path, found, reason)

    def _embed_and_commit(self, group: list[_Prepared]) -> None:
        fingerprint = self._embedder.fingerprint
        texts = {content_hash(chunk): embedded_text(chunk) for document in group for chunk in document.chunks}
        missing = list(self._writer.missing_vectors(texts, fingerprint))
        if missing:
            vectors = self._embedder.embed_documents([texts[hash] for hash in missing])
            self._writer.store_vectors(fingerprint, missing, vectors)
        for item, found, sha256, title, chunks in group:
            self._writer.replace(self._ids[item.collection], item.path, found, sha256, title, chunks)

    def _is_generation_due(self) -> bool:
        """Not for every save: a reader replays some thousand changes in no time."""
        return self._writer.last_change() - self._written_seq >= 1000

    def write_generation(self) -> None:
        """Snapshots the vectors for the next start. Failing is harmless: the index is built from the database then."""
        if self._writer.last_change() == self._written_seq:
            return
        fingerprint, dimension = self._embedder.fingerprint, self._embedder.dimension
        seq, ids, vectors = self._writer.all_vectors(fingerprint, dimension)
        header = generations.Header(fingerprint, dimension, len(ids), seq)
        try:
            generations.write_generation(self._generations, header, serialize_flat(ids, vectors))
        except OSError as error:
            _log.warning("the index snapshot could not be written: %s", error)
            return
        self._writer.trim_changes(self._written_seq)
        self._written_seq = seq


def _identities(roots: Iterable[Path]) -> list[tuple[Path, int]]:
    """The roots that exist, each with its inode: a folder made anew must be watched anew."""
    found = []
    for root in roots:
        try:
            found.append((root, root.stat().st_ino))
        except OSError:
            continue
    return found
