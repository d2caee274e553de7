"""From vector stores, their files and hits to the wire types of /v1/vector_stores."""

import time
from collections.abc import Sequence

from index.params import Chunking
from server.api.shared.passage import PassageFields
from server.api.vector_stores.wire import (
    ChunkingStrategy,
    ContentPart,
    FileBatch,
    FileCounts,
    LastError,
    StaticSizes,
    StoreExpiry,
    StoreFile,
    StoreResult,
    VectorStore,
)
from server.files.vector_store_files import FileStatusCounts, VectorStoreFile
from server.files.vector_stores import FileHit
from server.rag.relevance import calibrated_scores
from server.storage.file_records import FileBatchRecord, VectorStoreRecord


def store_reply(store: VectorStoreRecord, counts: FileStatusCounts) -> VectorStore:
    return VectorStore(
        id=store.id,
        created_at=store.created_at,
        name=store.name,
        description=store.description,
        usage_bytes=counts.size,
        file_counts=counts_reply(counts),
        status="expired" if store.is_expired(time.time()) else "in_progress" if counts.in_progress else "completed",
        expires_after=None if store.expires_after_days is None else StoreExpiry(store.expires_after_days),
        expires_at=store.expires_at,
        last_active_at=store.last_active_at,
        metadata=store.metadata,
    )


def counts_reply(counts: FileStatusCounts) -> FileCounts:
    return FileCounts(
        in_progress=counts.in_progress,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        total=counts.total,
    )


def file_reply(file: VectorStoreFile, default_chunking: Chunking) -> StoreFile:
    """Return a file of a store. `default_chunking` is how it is chunked where that was left open."""
    failure = file.failure
    chunking = file.chunking or default_chunking
    return StoreFile(
        id=file.file_id,
        usage_bytes=file.size,
        created_at=file.created_at,
        vector_store_id=file.store_id,
        status=file.status,
        last_error=None if failure is None else LastError(failure.code, failure.message),
        chunking_strategy=ChunkingStrategy(StaticSizes(chunking.size, chunking.overlap)),
        attributes=file.attributes,
    )


def batch_reply(batch: FileBatchRecord, counts: FileStatusCounts) -> FileBatch:
    is_cancelled = batch.cancelled_at is not None
    return FileBatch(
        id=batch.id,
        created_at=batch.created_at,
        vector_store_id=batch.store_id,
        status="cancelled" if is_cancelled else "in_progress" if counts.in_progress else "completed",
        file_counts=counts_reply(counts),
    )


def score_hits(hits: Sequence[FileHit], threshold: float | None) -> list[tuple[FileHit, float]]:
    """Return the hits that reach the threshold, in their order, each with its calibrated score."""
    scored_hits = zip(hits, calibrated_scores([hit.passage for hit in hits]), strict=True)
    return [(hit, score) for hit, score in scored_hits if score >= (threshold or 0.0)]


def result_reply(hit: FileHit, score: float, base_url: str) -> StoreResult:
    passage = PassageFields.of(hit.passage, base_url)
    return StoreResult(
        file_id=hit.file_id,
        filename=hit.filename,
        score=round(score, 4),
        attributes=hit.attributes,
        content=[ContentPart(passage.text)],
        chunk_id=passage.chunk_id,
        heading=passage.heading,
        lines=passage.lines,
        place=passage.place,
        url=passage.url,
    )
