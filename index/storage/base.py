"""Interfaces of the index's storage: a `DocumentStore` that the indexer writes through, a `Catalog` that people read.

Every implementation raises `StorageError` and passes the contract tests in `tests/index/storage`.
"""

from collections.abc import Iterable
from typing import Protocol, Self

from index.storage.records import (
    DOCUMENT_START,
    CollectionStatus,
    DocumentCount,
    DocumentExcerpt,
    DocumentRecord,
    DocumentState,
    ExcerptRange,
    VectorSpace,
)


class Catalog(Protocol):
    """What the index holds, as far as whoever asks may see it. Safe to use from any thread.

    A catalog of some collections answers as if there were no others: their names, files and texts are not in it.
    Uploaded files are in an unrestricted catalog only, since the index does not know whose they are. Everything is
    empty or None before the indexer's first start.
    """

    def seen_by(self, collections: frozenset[str] | None) -> Self:
        """Return this catalog restricted to these collections; None: as it is."""
        ...

    def status(self) -> list[CollectionStatus]:
        """Return the status of every active watched collection, by name."""
        ...

    def topic(self) -> str | None:
        """Return a heading of some document, else the name of a file; None when nothing is indexed."""
        ...

    def find_document(self, document_id: int) -> DocumentRecord | None: ...

    def list_documents(self, collection: str, paths: Iterable[str] | None = None) -> list[DocumentRecord]:
        """Return a collection's documents in the order in which they were first seen; those with these paths only,
        where given."""
        ...

    def list_documents_by_path(
        self, collection: str, limit: int, after: str = "", state: DocumentState | None = None, contains: str = ""
    ) -> list[DocumentRecord]:
        """Return a page of a collection's documents, ordered by path and beginning behind the path `after`; only those
        in `state`, and with `contains` in their paths, whatever its case."""
        ...

    def count_documents(self, collection: str) -> list[DocumentCount]: ...

    def read_document(self, document_id: int, range: ExcerptRange = DOCUMENT_START) -> DocumentExcerpt | None: ...

    def read_texts(self, document_id: int) -> list[str]:
        """Return the texts of a document's chunks, in order, each under the header of its table."""
        ...

    def vector_space(self) -> VectorSpace | None:
        """Return the space that is searched; None before an indexer has made one."""
        ...
