"""The records of the index's storage: files, documents, excerpts of documents, collections, vector spaces."""

from typing import Literal, NamedTuple

import msgspec

from index.types import Location, with_lead
from index.uploads import display_path

DocumentState = Literal["pending", "indexed", "failed"]


class FileStat(NamedTuple):
    """Attributes of a file that differ when its content may have changed since it was read."""

    size: int  # bytes
    mtime_ns: int
    ctime_ns: int = 0  # changes with every write, whatever is done to mtime; 0: not known
    inode: int = 0


class KnownDocument(NamedTuple):
    """A document as the indexer compares it with its file."""

    id: int
    stat: FileStat
    sha256: str | None
    state: DocumentState


class DocumentRecord(NamedTuple):
    """A document of an active collection.

    `was_indexed`: it has been indexed at some time, whatever its state is now. `error`: why it cannot be read; `note`:
    what of it could not be read.
    """

    id: int
    collection: str
    root: str  # folder of the collection
    path: str  # below the root, with /
    size: int  # bytes; negative for a file that could not be opened
    mtime_ns: int
    state: DocumentState
    was_indexed: bool
    error: str | None
    note: str | None


class DocumentCount(NamedTuple):
    """The number of documents of a collection in one state. `is_searchable`: their chunks are found, be it those of
    their content before a change that is still pending."""

    state: DocumentState
    is_searchable: bool
    num_documents: int
    size: int  # bytes of their files


class FailedDocument(msgspec.Struct, frozen=True):
    path: str
    reason: str


class CollectionStatus(msgspec.Struct, frozen=True):
    """Counts of a collection's documents. Times are Unix seconds."""

    name: str
    root: str
    documents: int  # indexed
    bytes: int  # of the files of the indexed documents
    chunks: int
    pending: int  # files that wait to be read
    pending_bytes: int
    failed: list[FailedDocument]
    error: str | None  # why the root cannot be read
    scanned_at: float | None  # end of the last full scan of this run
    last_change: float | None
    missing: int  # documents kept although their files are gone, since most of them went at once
    missing_since: float | None


class ExcerptRange(NamedTuple):
    """The part of a document to read: chunks by the ids of the first and the last, else the chunks on these lines,
    both ends included, else the chunks from the ordinal `start` on, counted from 0."""

    chunks: tuple[int, int] | None = None
    lines: tuple[int, int] | None = None
    start: int | None = None


DOCUMENT_START = ExcerptRange()


class StoredChunk(NamedTuple):
    id: int
    heading: tuple[str, ...]
    text: str
    line_from: int
    line_to: int
    place: Location | None
    lead: str

    @property
    def text_with_lead(self) -> str:
        return with_lead(self.lead, self.text)


class DocumentExcerpt(NamedTuple):
    """A document's chunks in order; of a large document only those around the range that was asked for.

    `start` is the ordinal of the first chunk, of `num_chunks`. `highlighted`: ids of the chunks in the range.
    `has_range` is False when the document has nothing there; then there are no chunks.
    """

    collection: str
    path: str
    note: str | None  # what of the file could not be read
    chunks: list[StoredChunk]
    start: int = 0
    num_chunks: int = 0
    highlighted: frozenset[int] = frozenset()
    has_range: bool = True

    @property
    def title(self) -> str:
        """Return the path in its collection, or an upload's file name."""
        name = display_path(self.path)
        return f"{self.collection}/{self.path}" if name == self.path else name


class VectorSpace(msgspec.Struct, frozen=True):
    """The space of one embedder. `origin` is the indexer's description of that embedder, opaque to the index."""

    fingerprint: str
    dimension: int
    origin: str = ""


class ChunkToEmbed(NamedTuple):
    id: int
    content_hash: bytes
    text: str  # under its headings, as it is embedded
