"""A store of the index in memory: the second implementation of the contract tests."""

import copy
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from index.embedded_text import content_hash, embedded_text
from index.storage.records import (
    DOCUMENT_START,
    ChunkToEmbed,
    CollectionStatus,
    DocumentCount,
    DocumentExcerpt,
    DocumentRecord,
    DocumentState,
    ExcerptRange,
    FailedDocument,
    FileStat,
    KnownDocument,
    StoredChunk,
    VectorSpace,
)
from index.types import Chunk, Collection, Vectors, is_managed

_EXCERPT_CHUNKS, _CHUNKS_BEFORE = 200, 20
_DATA: dict[Path, "MemoryIndex"] = {}  # by data folder, so that a store and a catalog of the same folder share it


class MemoryCollection:
    def __init__(self, name: str, root: str) -> None:
        self.name = name
        self.root = root
        self.is_active = True
        self.identity: str | None = None
        self.error: str | None = None
        self.scanned_at: float | None = None
        self.changed_at: float | None = None
        self.missing = 0
        self.missing_since: float | None = None


class MemoryDocument:
    def __init__(self, id: int, collection_id: int, path: str, stat: FileStat) -> None:
        self.id = id
        self.collection_id = collection_id
        self.path = path
        self.stat = stat
        self.sha256: str | None = None
        self.state: DocumentState = "pending"
        self.was_indexed = False
        self.error: str | None = None
        self.note: str | None = None
        self.chunks: dict[int, Chunk] = {}


class StoredVector(NamedTuple):
    id: int
    fingerprint: str
    content_hash: bytes


class MemoryIndex:
    """The content of a data folder."""

    def __init__(self) -> None:
        self.collections: dict[int, MemoryCollection] = {}
        self.documents: dict[int, MemoryDocument] = {}
        self.vectors: list[StoredVector] = []
        self.num_vectors = self.num_chunks = self.num_documents = self.seq = 0
        self.space: VectorSpace | None = None
        self.has_other_spaces = self.is_paused = False
        self.chunking: str | None = None

    @property
    def chunks(self) -> dict[int, Chunk]:
        return {id: chunk for document in self.documents.values() for id, chunk in document.chunks.items()}

    def has_vector(self, fingerprint: str, hash: bytes) -> bool:
        return any((each.fingerprint, each.content_hash) == (fingerprint, hash) for each in self.vectors)

    def of_collection(self, collection_id: int) -> list[MemoryDocument]:
        return [document for document in self.documents.values() if document.collection_id == collection_id]


class MemoryDocumentStore:
    def __init__(self, data: Path) -> None:
        self._index = _DATA.setdefault(data, MemoryIndex())
        self._data = data

    @property
    def vector_spaces(self) -> "MemoryVectorSpaces":
        return MemoryVectorSpaces(self._index)

    @property
    def lexical_index(self) -> "MemoryLexicalIndex":
        return MemoryLexicalIndex()

    def close(self) -> None:
        """Keep the content for the next store of this folder, as a file does."""

    def database_id(self) -> str:
        return str(id(self._index))

    def configure(self, collections: Sequence[Collection]) -> dict[str, int]:
        known = {each.name: id for id, each in self._index.collections.items()}
        for each in self._index.collections.values():
            each.is_active = False
        for collection in collections:
            id = known.setdefault(collection.name, len(self._index.collections) + 1)
            stored = self._index.collections.setdefault(id, MemoryCollection(collection.name, str(collection.root)))
            if stored.root != str(collection.root):
                stored.root, stored.identity = str(collection.root), None
            stored.is_active, stored.error, stored.scanned_at = True, None, None
        return {collection.name: known[collection.name] for collection in collections}

    def record_scan(self, collection_id: int, error: str | None, identity: str | None = None) -> None:
        collection = self._index.collections[collection_id]
        collection.scanned_at, collection.error = time.time(), error
        collection.identity = identity or collection.identity

    def identity(self, collection_id: int) -> str | None:
        return self._index.collections[collection_id].identity

    def record_missing(self, collection_id: int, count: int) -> float:
        collection, now = self._index.collections[collection_id], time.time()
        collection.missing = count
        collection.missing_since = (collection.missing_since or now) if count else None
        return now - (collection.missing_since or now)

    def is_paused(self) -> bool:
        return self._index.is_paused

    def pause(self, is_paused: bool) -> None:
        self._index.is_paused = is_paused

    def known_documents(self, collection_id: int, path: str | None = None) -> dict[str, KnownDocument]:
        return {
            each.path: KnownDocument(each.id, each.stat, each.sha256, each.state)
            for each in self._index.of_collection(collection_id)
            if path is None or each.path == path or each.path.startswith(f"{path}/")
        }

    def _document(self, collection_id: int, path: str, stat: FileStat) -> MemoryDocument:
        for document in self._index.of_collection(collection_id):
            if document.path == path:
                return document
        self._index.num_documents += 1
        document = MemoryDocument(self._index.num_documents, collection_id, path, stat)
        return self._index.documents.setdefault(document.id, document)

    def mark_pending(self, collection_id: int, files: Iterable[tuple[str, FileStat]]) -> None:
        for path, stat in files:
            self._document(collection_id, path, stat).state = "pending"

    def mark_unchanged(self, files: Iterable[tuple[int, str, FileStat]]) -> None:
        for collection_id, path, stat in files:
            document = self._document(collection_id, path, stat)
            document.stat, document.state, document.error = stat, "indexed", None

    def retry_failed(self, collection_id: int, path: str | None = None) -> None:
        for document in self._index.of_collection(collection_id):
            if document.state == "failed" and path in (None, document.path):
                document.state = "pending"

    def remove(self, collection_id: int, paths: Iterable[str]) -> None:
        for path in paths:
            for document in self._index.of_collection(collection_id):
                if document.path == path:
                    self._set_chunks(document, [])
                    del self._index.documents[document.id]

    def fail(self, collection_id: int, path: str, stat: FileStat, reason: str) -> None:
        document = self._document(collection_id, path, stat)
        self._set_chunks(document, [])
        document.stat, document.sha256, document.state, document.error = stat, None, "failed", reason
        document.was_indexed = True

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
        document = self._document(collection_id, path, stat)
        self._set_chunks(document, chunks)
        document.stat, document.sha256, document.state, document.error = stat, sha256, "indexed", None
        document.note, document.was_indexed = note, True

    def _set_chunks(self, document: MemoryDocument, chunks: Sequence[Chunk]) -> None:
        self._index.seq += len(document.chunks) + len(chunks)
        first = self._index.num_chunks + 1
        self._index.num_chunks += len(chunks)
        document.chunks = dict(enumerate(chunks, first))
        self._index.collections[document.collection_id].changed_at = time.time()

    def invalidate_other_chunking(self, chunking: str) -> None:
        if self._index.chunking != chunking:
            self._index.chunking = chunking
            for document in self._index.documents.values():
                document.state, document.sha256 = "pending", None

    def invalidate_unembedded(self, fingerprint: str) -> None:
        for document in self._index.documents.values():
            if not all(self._index.has_vector(fingerprint, content_hash(each)) for each in document.chunks.values()):
                document.state, document.sha256 = "pending", None

    def missing_vectors(self, hashes: Iterable[bytes], fingerprint: str) -> set[bytes]:
        return {hash for hash in hashes if not self._index.has_vector(fingerprint, hash)}

    def store_vectors(self, fingerprint: str, hashes: Sequence[bytes], vectors: Vectors) -> None:
        for hash in hashes:
            if not self._index.has_vector(fingerprint, hash):
                self._index.num_vectors += 1
                self._index.vectors.append(StoredVector(self._index.num_vectors, fingerprint, hash))

    def delete_unused_vectors(self) -> None:
        used = {content_hash(chunk) for chunk in self._index.chunks.values()}
        self._index.vectors = [each for each in self._index.vectors if each.content_hash in used]

    def last_change(self) -> int:
        return self._index.seq

    def trim_changes(self, seq: int) -> None:
        """Keep no log: nothing follows a store in memory."""


class MemoryLexicalIndex:
    """Has nothing to follow: a search in memory reads the chunks."""

    seq = None

    def advance(self) -> bool:
        return False

    def close(self) -> None:
        pass


class MemoryVectorSpaces:
    def __init__(self, index: MemoryIndex) -> None:
        self._index = index

    def current(self) -> VectorSpace | None:
        return self._index.space

    def start(self, space: VectorSpace, *, is_current: bool, has_others: bool) -> None:
        self._index.has_other_spaces |= has_others
        if is_current:
            self._index.space = space

    def switch_to(self, space: VectorSpace) -> None:
        self._index.space = space

    def has_vectors(self) -> bool:
        return bool(self._index.vectors)

    def has_others(self) -> bool:
        return self._index.has_other_spaces

    def count_chunks(self) -> int:
        return len(self._index.chunks)

    def count_chunks_without_vector(self, fingerprint: str) -> int:
        return len(self.chunks_without_vector(fingerprint, 0, len(self._index.chunks)))

    def chunks_without_vector(self, fingerprint: str, after_id: int, limit: int) -> list[ChunkToEmbed]:
        chunks = [
            ChunkToEmbed(id, content_hash(chunk), embedded_text(chunk.heading, chunk.text_with_lead))
            for id, chunk in sorted(self._index.chunks.items())
            if id > after_id and not self._index.has_vector(fingerprint, content_hash(chunk))
        ]
        return chunks[:limit]

    def newest_vector_id(self) -> int:
        return max((each.id for each in self._index.vectors), default=0)

    def remove_others(self, fingerprint: str, after_id: int, up_to_id: int) -> None:
        self._index.vectors = [
            each
            for each in self._index.vectors
            if each.fingerprint == fingerprint or not after_id < each.id <= up_to_id
        ]

    def note_others_removed(self) -> None:
        self._index.has_other_spaces = False


class MemoryCatalog:
    def __init__(self, data: Path) -> None:
        self._data = data
        self._collections: frozenset[str] | None = None

    def seen_by(self, collections: frozenset[str] | None) -> Self:
        if collections is None:
            return self
        restricted = copy.copy(self)
        restricted._collections = collections if self._collections is None else self._collections & collections
        return restricted

    def _visible(self) -> dict[int, MemoryCollection]:
        index = _DATA.get(self._data, MemoryIndex())
        return {
            id: each
            for id, each in index.collections.items()
            if each.is_active and (self._collections is None or each.name in self._collections)
        }

    def _documents(self) -> list[MemoryDocument]:
        index, visible = _DATA.get(self._data, MemoryIndex()), self._visible()
        return [document for document in index.documents.values() if document.collection_id in visible]

    def _record(self, document: MemoryDocument) -> DocumentRecord:
        collection = self._visible()[document.collection_id]
        return DocumentRecord(
            id=document.id,
            collection=collection.name,
            root=collection.root,
            path=document.path,
            size=document.stat.size,
            mtime_ns=document.stat.mtime_ns,
            state=document.state,
            was_indexed=document.was_indexed,
            error=document.error,
            note=document.note,
        )

    def _find(self, document_id: int) -> MemoryDocument | None:
        return next((document for document in self._documents() if document.id == document_id), None)

    def status(self) -> list[CollectionStatus]:
        visible = sorted(self._visible().items(), key=lambda item: item[1].name)
        return [self._status(id, collection) for id, collection in visible if not is_managed(collection.name)]

    def _status(self, id: int, collection: MemoryCollection) -> CollectionStatus:
        documents = [document for document in self._documents() if document.collection_id == id]
        indexed = [document for document in documents if document.state == "indexed"]
        pending = [document for document in documents if document.state == "pending"]
        failed = sorted((each for each in documents if each.state == "failed"), key=lambda document: document.path)
        return CollectionStatus(
            name=collection.name,
            root=collection.root,
            documents=len(indexed),
            bytes=sum(max(document.stat.size, 0) for document in indexed),
            chunks=sum(len(document.chunks) for document in documents),
            pending=len(pending),
            pending_bytes=sum(max(document.stat.size, 0) for document in pending),
            failed=[FailedDocument(document.path, str(document.error)) for document in failed],
            error=collection.error,
            scanned_at=collection.scanned_at,
            last_change=collection.changed_at,
            missing=collection.missing,
            missing_since=collection.missing_since,
        )

    def topic(self) -> str | None:
        visible = self._visible()
        for document in self._documents():
            if document.chunks and not is_managed(visible[document.collection_id].name):
                (chunk, *_) = document.chunks.values()
                return chunk.heading[-1] if chunk.heading else PurePosixPath(document.path).stem
        return None

    def find_document(self, document_id: int) -> DocumentRecord | None:
        document = self._find(document_id)
        return None if document is None else self._record(document)

    def list_documents(self, collection: str, paths: Iterable[str] | None = None) -> list[DocumentRecord]:
        only_paths = None if paths is None else set(paths)
        records = [record for record in map(self._record, self._documents()) if record.collection == collection]
        return [record for record in records if only_paths is None or record.path in only_paths]

    def list_documents_by_path(
        self, collection: str, limit: int, after: str = "", state: DocumentState | None = None, contains: str = ""
    ) -> list[DocumentRecord]:
        records = [
            record
            for record in sorted(self.list_documents(collection), key=lambda record: record.path)
            if record.path > after and state in (None, record.state) and contains.lower() in record.path.lower()
        ]
        return records[:limit]

    def count_documents(self, collection: str) -> list[DocumentCount]:
        counts: Counter[tuple[DocumentState, bool]] = Counter()
        sizes: Counter[tuple[DocumentState, bool]] = Counter()
        for record in self.list_documents(collection):
            is_old = record.state == "pending" and record.was_indexed and record.error is None
            key = record.state, record.state == "indexed" or is_old
            counts[key] += 1
            sizes[key] += max(record.size, 0)
        return [DocumentCount(*key, num_documents=counts[key], size=sizes[key]) for key in counts]

    def count_chunks(self, document_ids: Sequence[int]) -> dict[int, int]:
        documents = [document for id in document_ids if (document := self._find(id)) and document.chunks]
        return {document.id: len(document.chunks) for document in documents}

    def read_document(self, document_id: int, range: ExcerptRange = DOCUMENT_START) -> DocumentExcerpt | None:
        document = self._find(document_id)
        if document is None:
            return None
        record, stored = self._record(document), [_stored_chunk(id, chunk) for id, chunk in document.chunks.items()]
        excerpt = DocumentExcerpt(record.collection, record.path, record.note, [], num_chunks=len(stored))
        ordinals = [ordinal for ordinal, chunk in enumerate(stored) if _is_in(chunk, range)]
        if (range.chunks or range.lines) and not ordinals:
            return excerpt._replace(has_range=False)
        start = ordinals[0] - _CHUNKS_BEFORE if ordinals else range.start or 0
        start = max(0, min(start, len(stored) - _EXCERPT_CHUNKS))
        return excerpt._replace(
            chunks=stored[start : start + _EXCERPT_CHUNKS],
            start=start,
            highlighted=frozenset(stored[ordinal].id for ordinal in ordinals),
        )

    def read_texts(self, document_id: int) -> list[str]:
        document = self._find(document_id)
        return [] if document is None else [chunk.text_with_lead for chunk in document.chunks.values()]

    def vector_space(self) -> VectorSpace | None:
        return _DATA.get(self._data, MemoryIndex()).space


def _stored_chunk(id: int, chunk: Chunk) -> StoredChunk:
    return StoredChunk(
        id=id,
        heading=chunk.heading,
        text=chunk.text,
        line_from=chunk.line_from,
        line_to=chunk.line_to,
        place=chunk.place,
        lead=chunk.lead,
    )


def _is_in(chunk: StoredChunk, range: ExcerptRange) -> bool:
    if range.chunks:
        return range.chunks[0] <= chunk.id <= range.chunks[1]
    return range.lines is not None and chunk.line_to >= range.lines[0] and chunk.line_from <= range.lines[1]
