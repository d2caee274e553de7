"""Opens the store that the indexer writes to."""

from pathlib import Path

from index.lexical.fts5 import Fts5Writer
from index.storage.sqlite.database import open_writer
from index.storage.sqlite.document_store import SqliteDocumentStore


def open_document_store(data: Path) -> SqliteDocumentStore:
    """Open, make or migrate the index in a data folder; the caller closes it. Raises `DataFolderError`."""
    return SqliteDocumentStore(open_writer(data), Fts5Writer())
