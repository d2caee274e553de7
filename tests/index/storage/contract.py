"""The storage implementations that the contract tests run over. The next one adds a line to `IMPLEMENTATIONS`."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.embedded_text import content_hash
from index.ingest.store import open_document_store
from index.storage.base import Catalog, DocumentStore
from index.storage.records import FileStat
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Chunk, Collection
from tests.index.storage.memory import MemoryCatalog, MemoryDocumentStore

SPACE = "space"
DIMENSION = 3


class Implementation(NamedTuple):
    """Functions that open the store of a data folder for writing, and its catalog for reading."""

    name: str
    open_store: Callable[[Path], DocumentStore]
    open_catalog: Callable[[Path], Catalog]


IMPLEMENTATIONS = [
    Implementation("sqlite", open_document_store, SqliteCatalog),
    Implementation("memory", MemoryDocumentStore, MemoryCatalog),
]


class Storage:
    """An opened store and its catalog, with two collections, `handbook` and `policies`."""

    def __init__(self, implementation: Implementation, data: Path) -> None:
        self._implementation = implementation
        self._data = data
        self.store = implementation.open_store(data)
        self.catalog = implementation.open_catalog(data)
        self.roots = {name: data / name for name in ("handbook", "policies")}
        self.ids = self.store.configure([Collection(name, root) for name, root in self.roots.items()])

    def reopen(self) -> None:
        """Close the store and open it again, as a restart does."""
        self.store.close()
        self.store = self._implementation.open_store(self._data)

    def index_document(
        self, collection: str, path: str, *texts: str, stat: FileStat | None = None, note: str | None = None
    ) -> None:
        """Index a document of these chunks, one a line."""
        chunks = [Chunk(text, (f"Part {line}",), 0, len(text), line, line) for line, text in enumerate(texts, 1)]
        hashes = [content_hash(chunk) for chunk in chunks]
        vectors = np.eye(DIMENSION, dtype=np.float32)[np.arange(len(chunks)) % DIMENSION]
        self.store.store_vectors(SPACE, hashes, vectors)
        self.store.replace(
            self.ids[collection], path, stat or FileStat(9, 1_000), f"sha of {texts}", None, chunks, note
        )

    def document_id(self, collection: str, path: str) -> int:
        (document,) = self.catalog.list_documents(collection, [path])
        return document.id

    def states(self, collection: str) -> dict[str, str]:
        return {document.path: document.state for document in self.catalog.list_documents(collection)}

    def texts(self, collection: str, path: str) -> list[str]:
        return self.catalog.read_texts(self.document_id(collection, path))
