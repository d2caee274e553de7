"""The exceptions of the index.

IndexingError
├── DataFolderError          the data folder cannot be used: not writable, in use, of a newer version
├── CollectionNotFound
├── InvalidFilter            a pattern of a filter is invalid
├── LexicalIndexError        tantivy's index folder cannot be used; it is built again from the database
├── RootUnavailable          a followed folder is missing or cannot be read
├── StorageError             a database failed
│   ├── StorageDamaged       its file is damaged, or is no database
│   ├── StorageFull          the disk or the quota is full; nothing of the transaction was kept
│   └── StorageUnavailable   the disk fails, is read-only, or the database is locked: trying again may help
└── UnreadableDocument       a file cannot be read; the reason is stored with its document
"""

from pathlib import Path


class IndexingError(Exception):
    pass


class DataFolderError(IndexingError):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class CollectionNotFound(IndexingError):
    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no collection named {name!r}")
        self.name = name
        self.known = known


class InvalidFilter(IndexingError):
    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(f"the pattern {pattern!r} means nothing: {reason}")
        self.pattern = pattern


class LexicalIndexError(IndexingError):
    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder}: {reason}")
        self.folder = folder
        self.reason = reason


class RootUnavailable(IndexingError):
    def __init__(self, root: Path, reason: str) -> None:
        super().__init__(f"{root}: {reason}")
        self.root = root
        self.reason = reason


class StorageError(IndexingError):
    """Raised by every store of the index and of the server, whatever database is behind it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StorageDamaged(StorageError):
    pass


class StorageFull(StorageError):
    pass


class StorageUnavailable(StorageError):
    pass


class UnreadableDocument(IndexingError):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
