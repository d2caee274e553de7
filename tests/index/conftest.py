"""Fixtures: a watched folder, its data folder and an index over it that tests drive step by step."""

import asyncio
import contextlib
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from index.ingest.commands import Command
from index.ingest.indexer import Indexer
from index.ingest.progress import Progress
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.reading.readers import read
from index.search.retriever import Retriever
from index.storage.records import CollectionStatus
from index.storage.sqlite.catalog import SqliteCatalog
from index.storage.sqlite.database import open_reader, query
from index.storage.sqlite.document_store import SqliteDocumentStore
from index.types import Collection, FileSubset, Filters, ParsedDocument, Passage, Query, Vectors

_WORD = re.compile(r"\w+")
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


class HashEmbedder:
    """Embeds texts as hashed bags of words, so that texts sharing words are near each other, and records them."""

    def __init__(self, fingerprint: str = "hash-a", dimension: int = 64) -> None:
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.max_tokens = 512
        self.embedded: list[str] = []

    def count_tokens(self, text: str) -> int:
        return len(_WORD.findall(text))

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        return self.vectors(texts)

    def vectors(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _WORD.findall(text.lower()):
                row[zlib.crc32(f"{self.fingerprint} {word}".encode()) % self.dimension] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


class QueryHashEmbedder:
    """Embeds questions in the space of a `HashEmbedder`."""

    def __init__(self, embedder: HashEmbedder) -> None:
        self._embedder = embedder

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.vectors(texts)


class Workspace:
    """An indexer with one collection, `notes`, unless others are given; everything in one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.data = folder / "data"
        self.root.mkdir(exist_ok=True)
        self.embedder = HashEmbedder()
        self.collections = [Collection("notes", self.root)]
        self.params = IndexingParams(settle_s=0.05)
        self.read: Callable[[str, bytes], ParsedDocument] = read
        self.writer: SqliteDocumentStore | None = None
        self._indexer: Indexer | None = None

    @property
    def catalog(self) -> SqliteCatalog:
        return SqliteCatalog(self.data)

    def write(self, path: str, content: str | bytes, root: Path | None = None) -> Path:
        file = (root or self.root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def start(self, *collections: Collection, report: Callable[[Progress], None] = lambda _: None) -> Indexer:
        """Start a new indexer, of these collections if any are given, and close the one before."""
        self.close()
        self.collections = list(collections) or self.collections
        self.writer = open_document_store(self.data)
        self._indexer = Indexer(self.collections, self.writer, self.embedder, self.params, self.data, self.read, report)
        return self._indexer

    @property
    def indexer(self) -> Indexer:
        return self._indexer or self.start()

    def sync(self) -> int:
        """Scan and work until nothing is left to do; return how many texts were embedded."""
        indexer, before = self.indexer, len(self.embedder.embedded)
        indexer.scan()
        while indexer.upkeep.index_words() or indexer.work():
            pass
        while indexer.upkeep.index_words():
            pass
        return len(self.embedder.embedded) - before

    @contextlib.contextmanager
    def running(
        self,
        *collections: Collection,
        receive_commands: Callable[[], Iterable[Command]] = tuple,
        report: Callable[[Progress], None] = lambda _: None,
        is_paused: bool = False,
    ) -> Iterator[None]:
        """Run the indexer's loop on a thread, past its first scan unless it is paused. Raises its errors at the end."""
        indexer, stop = self.start(*collections, report=report), Event()
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(indexer.run, stop, receive_commands)
            try:
                eventually(
                    lambda: is_paused or running.done() or all(status.scanned_at for status in self.catalog.status())
                )
                yield
            finally:
                stop.set()
                running.result()

    def crash(self) -> None:
        """Go on with a copy of the data folder as it is on disk now, as after a kill: nothing was closed."""
        after = self.data.with_name(f"{self.data.name}+")
        shutil.copytree(self.data, after)
        self.close()
        self.data = after

    def close(self) -> None:
        if self._indexer is not None:
            self._indexer.close()
        if self.writer is not None:
            self.writer.close()
        self.writer = self._indexer = None

    def rows(self, sql: str, *bindings: object) -> list[tuple[object, ...]]:
        reader = open_reader(self.data)
        try:
            return query(reader, sql, bindings)
        finally:
            reader.close()

    def texts(self, collection: str = "notes") -> dict[str, str]:
        """Return the indexed text by path: the chunks of each document of a collection, one after the other."""
        rows = self.rows(
            "SELECT path, coalesce(group_concat(text, char(10) ORDER BY ordinal), '') FROM documents"
            " LEFT JOIN chunks ON document_id = documents.id WHERE state = 'indexed'"
            " AND collection_id = (SELECT id FROM collections WHERE name = ?) GROUP BY path",
            collection,
        )
        return {str(path): str(text) for path, text in rows}

    def chunk_ids(self) -> set[int]:
        return {int(str(id)) for (id,) in self.rows("SELECT id FROM chunks")}

    def status(self, collection: str = "notes") -> CollectionStatus:
        (status_of_collection,) = (status for status in self.catalog.status() if status.name == collection)
        return status_of_collection

    def failures(self) -> dict[str, str]:
        return {failed.path: failed.reason for failed in self.status().failed}

    @contextlib.contextmanager
    def retrieving(self) -> Iterator["Search"]:
        with Retriever(self.data, self.embedder.fingerprint, self.embedder.dimension) as retriever:
            yield Search(retriever, QueryHashEmbedder(self.embedder))


class Search:
    """Searches with a retriever and its question embedder."""

    def __init__(self, retriever: Retriever, embedder: QueryHashEmbedder) -> None:
        self.retriever = retriever
        self._embedder = embedder

    def __call__(
        self,
        question: str | Sequence[Query],
        k: int = 5,
        collections: Sequence[str] | None = None,
        filters: Filters | None = None,
        subsets: Sequence[FileSubset] = (),
    ) -> list[Passage]:
        queries = [Query(question)] if isinstance(question, str) else question
        return asyncio.run(self.retriever.search(queries, self._embedder, k, collections, filters, subsets))


def eventually(condition: Callable[[], object], deadline_s: float = 10) -> None:
    """Wait until the condition holds; fail when it does not within the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)


def set_mtime(file: Path, mtime_ns: int) -> None:
    os.utime(file, ns=(mtime_ns, mtime_ns))


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path)
    yield workspace
    workspace.close()
