"""Opens the embedded store that the indexer writes to: SQLite, with FTS5 and tantivy for words."""

from pathlib import Path

from index.lexical.fts5 import Fts5Writer
from index.lexical.upkeep import LexicalUpkeep
from index.storage.sqlite.database import open_writer
from index.storage.sqlite.document_store import SqliteDocumentStore


def open_document_store(data: Path) -> SqliteDocumentStore:
    """Open, make or migrate the index in a data folder; the caller closes it. Raises `DataFolderError`."""
    connection = open_writer(data)
    return SqliteDocumentStore(connection, Fts5Writer(), LexicalUpkeep(connection, data))
