"""Interfaces of the index's storage: a `DocumentStore` that the indexer writes through, a `Catalog` that people read.

Every implementation raises `StorageError` and passes the contract tests in `tests/index/storage`.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, Self

from index.storage.records import (
    DOCUMENT_START,
    ChunkToEmbed,
    CollectionStatus,
    DocumentCount,
    DocumentExcerpt,
    DocumentRecord,
    DocumentState,
    ExcerptRange,
    FileStat,
    KnownDocument,
    VectorSpace,
)
from index.types import Chunk, Collection, Vectors


class Catalog(Protocol):
    """A view of the index's content, restricted to the collections that whoever asks may see. Safe from any thread.

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

    def count_chunks(self, document_ids: Sequence[int]) -> dict[int, int]:
        """Return the number of chunks of each of these documents, by id; documents without chunks are left out."""
        ...

    def read_document(self, document_id: int, range: ExcerptRange = DOCUMENT_START) -> DocumentExcerpt | None: ...

    def read_texts(self, document_id: int) -> list[str]:
        """Return the texts of a document's chunks, in order, each under the header of its table."""
        ...

    def vector_space(self) -> VectorSpace | None:
        """Return the space that is searched; None before an indexer has made one."""
        ...


class DocumentStore(Protocol):
    """The store that the indexer writes to. For one thread; an index has one writer.

    Each method is atomic, and durable when it returns: after a crash the store is as before it or as after it.
    Documents are named by the id of their collection and the path below its root.
    """

    def configure(self, collections: Sequence[Collection]) -> dict[str, int]:
        """Make these collections, and no others, active; return their ids by name.

        A collection that is not active is hidden from search and kept, so that nothing is read again when it returns.
        """
        ...

    def record_scan(self, collection_id: int, error: str | None, identity: str | None = None) -> None:
        """Record the end of a full scan of a folder of this identity, or the `error` that prevented one."""
        ...

    def identity(self, collection_id: int) -> str | None:
        """Return the identity of the folder at the last full scan; None before one."""
        ...

    def record_missing(self, collection_id: int, count: int) -> float:
        """Record that `count` documents are kept although their files are gone; return for how many seconds any are."""
        ...

    def is_paused(self) -> bool: ...

    def pause(self, is_paused: bool) -> None: ...

    def known_documents(self, collection_id: int, path: str | None = None) -> dict[str, KnownDocument]:
        """Return a collection's documents by path; with `path`, the one at this path and all below it."""
        ...

    def mark_pending(self, collection_id: int, files: Iterable[tuple[str, FileStat]]) -> None:
        """Record new and changed files that wait to be read. Chunks that are indexed of them stay searchable."""
        ...

    def mark_unchanged(self, files: Iterable[tuple[int, str, FileStat]]) -> None:
        """Record new stats of files, by collection and path, whose content is that which is indexed."""
        ...

    def retry_failed(self, collection_id: int, path: str | None = None) -> None:
        """Make the documents that could not be read, or the one at this path, pending."""
        ...

    def remove(self, collection_id: int, paths: Iterable[str]) -> None: ...

    def fail(self, collection_id: int, path: str, stat: FileStat, reason: str) -> None:
        """Record that a file cannot be read, and remove its chunks."""
        ...

    def replace(
        self,
        collection_id: int,
        path: str,
        stat: FileStat,
        sha256: str,
        title: str | None,
        chunks: Sequence[Chunk],
        note: str | None = None,
    ) -> None:
        """Replace a document's chunks, whose vectors must be stored. `note`: what of the file could not be read."""
        ...

    def invalidate_other_chunking(self, chunking: str) -> None:
        """Make all documents pending if they were read or cut by another rule than this description's."""
        ...

    def invalidate_unembedded(self, fingerprint: str) -> None:
        """Make the documents pending that have a chunk without a vector of this space."""
        ...

    def missing_vectors(self, hashes: Iterable[bytes], fingerprint: str) -> set[bytes]:
        """Return the content hashes that have no vector in this space."""
        ...

    def store_vectors(self, fingerprint: str, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """Store vectors by content hash; a vector that is stored stays as it is."""
        ...

    def delete_unused_vectors(self) -> None:
        """Delete the vectors of texts that no chunk has."""
        ...

    @property
    def vector_spaces(self) -> "VectorSpaces": ...

    @property
    def lexical_index(self) -> "LexicalIndex": ...

    def database_id(self) -> str:
        """Return the random id that was made with the store. Caches are marked with it."""
        ...

    def last_change(self) -> int:
        """Return the number of the newest change to a chunk; 0 before the first."""
        ...

    def trim_changes(self, seq: int) -> None:
        """Forget the changes up to this number. A reader that is further behind starts again from all vectors."""
        ...

    def close(self) -> None: ...


class LexicalIndex(Protocol):
    """The index of words, which follows the store's changes in steps. Used on the store's thread."""

    @property
    def seq(self) -> int | None:
        """Return the newest change that the index has taken in; None when it needs none of the recorded changes."""
        ...

    def advance(self) -> bool:
        """Take in some of what was committed; return whether there is more to do at once."""
        ...

    def close(self) -> None: ...


class VectorSpaces(Protocol):
    """The vector spaces of embedders: the one that is searched, and one that is being built. For the store's thread."""

    def current(self) -> VectorSpace | None:
        """Return the space that is searched; None in a store that no indexer has opened since there are spaces."""
        ...

    def start(self, space: VectorSpace, *, is_current: bool, has_others: bool) -> None:
        """Record in one transaction whether this space is searched from now on, and whether others are left."""
        ...

    def switch_to(self, space: VectorSpace) -> None:
        """Search this space from now on."""
        ...

    def has_vectors(self) -> bool: ...

    def has_others(self) -> bool:
        """Return whether vectors of spaces that are not searched may be left."""
        ...

    def count_chunks(self) -> int: ...

    def count_chunks_without_vector(self, fingerprint: str) -> int: ...

    def chunks_without_vector(self, fingerprint: str, after_id: int, limit: int) -> list[ChunkToEmbed]:
        """Return the next chunks, by id, that have no vector in this space."""
        ...

    def newest_vector_id(self) -> int:
        """Return the largest id of a stored vector; 0 when there is none."""
        ...

    def remove_others(self, fingerprint: str, after_id: int, up_to_id: int) -> None:
        """Remove the vectors of other spaces that have an id in `(after_id, up_to_id]`."""
        ...

    def note_others_removed(self) -> None: ...
