"""Reads, chunks, embeds and commits the files of the work queue, a few at a time."""

import errno
import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple

from index.embedded_text import content_hash, embedded_text
from index.errors import UnreadableDocument
from index.ingest.chunker import Chunker
from index.ingest.files import read_file, stat_file
from index.ingest.followed_collections import CollectionPath, FollowedCollection
from index.ingest.long_texts import embed_long_texts
from index.ingest.progress import ProgressReporter
from index.ingest.work_queue import WorkQueue
from index.storage.base import DocumentStore
from index.storage.records import FileStat
from index.types import Chunk, DocumentEmbedder, ParsedDocument
from index.uploads import UploadPath

_GROUP = 16  # files read and embedded together
_CLOCK_STEP_NS = 20_000_000  # a file changed this soon before it was read may change again under the same time
_UNKNOWN = FileStat(-1, -1)  # of a file that could not be read: no scan will find it unchanged
# Errors that pass by themselves: too many open files, no memory, a disk or network that does not answer.
_TRANSIENT = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT,
})  # fmt: skip


class WorkResult(NamedTuple):
    """`num_files` were taken from the queue. Files of `missing` were not there any more; `retry` has the collections
    with a file that could not be read for a reason that passes."""

    num_files: int
    missing: list[CollectionPath]
    retry: set[FollowedCollection]


class _UnchangedFile(NamedTuple):
    """A file with the content that is indexed already."""

    file: CollectionPath
    stat: FileStat


class _Document(NamedTuple):
    """A file that was read and chunked."""

    file: CollectionPath
    stat: FileStat
    sha256: str
    title: str | None
    chunks: list[Chunk]
    note: str | None  # what of the file could not be read


class Worker:
    """Turns files into committed documents. A file that cannot be read becomes a row with the reason."""

    def __init__(
        self,
        store: DocumentStore,
        embedder: DocumentEmbedder,
        read: Callable[[str, bytes], ParsedDocument],
        chunker: Chunker,
        queue: WorkQueue,
        progress: ProgressReporter,
        max_bytes: int,
    ) -> None:
        """`read` makes text of a path and its content. Files larger than `max_bytes` are not read."""
        self._store = store
        self._embedder = embedder
        self._read = read
        self._chunker = chunker
        self._queue = queue
        self._progress = progress
        self._max_bytes = max_bytes

    def work(self) -> WorkResult:
        """Read, embed and commit the next files of the queue, each document in a transaction of its own."""
        files = self._queue.take(_GROUP)
        result = WorkResult(len(files), [], set())
        prepared = [self._prepare(file, result) for file in files]
        unchanged = [each for each in prepared if isinstance(each, _UnchangedFile)]
        if unchanged:
            self._store.mark_unchanged((file.collection.id, file.path, stat) for file, stat in unchanged)
        self._embed_and_commit([each for each in prepared if isinstance(each, _Document)])
        return result

    def _prepare(self, file: CollectionPath, result: WorkResult) -> _Document | _UnchangedFile | None:
        """Read and chunk a file; None when that fails, which is then in the database or in `result`."""
        collection, path = file
        self._progress.report("indexing", collection.name, path)
        seen = stat_file(collection.root, path) or _UNKNOWN
        try:
            return self._read_document(file)
        except FileNotFoundError:  # the file is gone, or its whole root is
            result.missing.append(file)
        except OSError as error:
            self._store.fail(collection.id, path, _UNKNOWN, error.strerror or str(error))
            if error.errno in _TRANSIENT:
                result.retry.add(collection)
        except UnreadableDocument as error:
            self._store.fail(collection.id, path, seen, error.reason)
        except (ValueError, RecursionError, LookupError) as error:  # a bug in a reader fails one file only
            reason = f"it could not be read ({type(error).__name__}: {error})"
            self._store.fail(collection.id, path, seen, reason)
        return None

    def _read_document(self, file: CollectionPath) -> _Document | _UnchangedFile:
        """Raises `OSError`, `UnreadableDocument`, and whatever a reader raises."""
        collection, path = file
        content, stat = read_file(collection.root, path, self._max_bytes)
        if time.time_ns() - stat.ctime_ns < _CLOCK_STEP_NS:
            stat = stat._replace(ctime_ns=0)  # the next scan reads it again
        sha256 = hashlib.sha256(content).hexdigest()
        known = self._store.known_documents(collection.id, path).get(path)
        if known is not None and known.sha256 == sha256:
            return _UnchangedFile(file, stat)
        parsed = self._read(path, content)
        note = "; ".join(parsed.notes) or None
        return _Document(file, stat, sha256, parsed.title, self._chunks(file, parsed), note)

    def _chunks(self, file: CollectionPath, parsed: ParsedDocument) -> list[Chunk]:
        upload = UploadPath.parse(file.path) if file.collection.is_managed else None
        return self._chunker.chunks(parsed, upload and upload.chunking)

    def _embed_and_commit(self, documents: list[_Document]) -> None:
        """Embed the chunks that have no vector yet, for all documents together, then commit one after the other."""
        fingerprint = self._embedder.fingerprint
        texts = {
            content_hash(chunk): embedded_text(chunk.heading, chunk.text_with_lead)
            for document in documents
            for chunk in document.chunks
        }
        missing = list(self._store.missing_vectors(texts, fingerprint))
        if missing:
            vectors = embed_long_texts(self._embedder, [texts[key] for key in missing])
            self._store.store_vectors(fingerprint, missing, vectors)
        for document in documents:
            collection, path = document.file
            self._store.replace(
                collection.id, path, document.stat, document.sha256, document.title, document.chunks, document.note
            )
            self._progress.count_file(document.stat.size)
