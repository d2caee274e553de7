"""Vector stores to and from the wire."""

import time
from collections.abc import Sequence

from index.params import Chunking
from server.api.shared.passage import wire_passage
from server.api.vector_stores.wire import (
    AddFile,
    BatchRequest,
    ChunkingRequest,
    ChunkingStrategy,
    ContentPart,
    FileBatch,
    FileCounts,
    FilterRequest,
    LastError,
    StaticSizes,
    StoreExpiry,
    StoreFile,
    StoreResult,
    VectorStore,
)
from server.errors import RequestError
from server.files.filters import AllOf, AnyOf, Compare, Comparison, Filter
from server.files.holdings import Hit
from server.files.records import Attribute, Batch, Counts, Member, Store, Wanted
from server.rag.relevance import calibrated_scores

_SMALLEST, _LARGEST = 100, 4096  # tokens of a chunk
_DEEPEST = 16  # filters in filters


def wanted_file(asked: AddFile, param: str = "") -> Wanted:
    """Raises `RequestError`."""
    chunking = chunking_of(asked.chunking_strategy, f"{param}chunking_strategy")
    return Wanted(asked.file_id, dict(asked.attributes or {}), chunking)


def wanted_files(asked: BatchRequest) -> list[Wanted]:
    """Raises `RequestError`."""
    if bool(asked.files) == bool(asked.file_ids):
        raise RequestError("Give either `file_ids` or `files`.", "file_ids", "invalid_value")
    if asked.files:
        return [wanted_file(each, f"files[{at}].") for at, each in enumerate(asked.files)]
    shared = AddFile("", asked.attributes, asked.chunking_strategy)
    return [wanted_file(shared)._replace(file_id=id) for id in asked.file_ids or ()]


def chunking_of(asked: ChunkingRequest | None, param: str) -> Chunking | None:
    """None where it is left open. Raises `RequestError`."""
    if asked is None or asked.type == "auto":
        return None
    if asked.type != "static" or asked.static is None:
        raise RequestError("It is `auto`, or `static` with its sizes.", f"{param}.type", "invalid_value")
    size, overlap = asked.static.max_chunk_size_tokens, asked.static.chunk_overlap_tokens
    if not _SMALLEST <= size <= _LARGEST:
        where = f"{param}.static.max_chunk_size_tokens"
        raise RequestError(f"A chunk has {_SMALLEST} to {_LARGEST} tokens.", where, "invalid_value")
    if not 0 <= overlap <= size // 2:
        where = f"{param}.static.chunk_overlap_tokens"
        raise RequestError("The overlap is 0 to half of the chunk's size.", where, "invalid_value")
    return Chunking(size, overlap)


def filter_of(asked: FilterRequest | None, param: str = "filters", depth: int = 1) -> Filter | None:
    """Raises `RequestError`."""
    if asked is None:
        return None
    if depth > _DEEPEST:
        raise RequestError(f"Filters may be nested {_DEEPEST} deep.", param, "invalid_value")
    if asked.type in ("and", "or"):
        if not asked.filters:
            raise RequestError(f"There is nothing to join by {asked.type!r}.", f"{param}.filters", "invalid_value")
        parts = [filter_of(each, f"{param}.filters[{at}]", depth + 1) for at, each in enumerate(asked.filters)]
        joined = tuple(part for part in parts if part is not None)
        return AllOf(joined) if asked.type == "and" else AnyOf(joined)
    if asked.type not in set(Comparison):
        known = ", ".join([*Comparison, "and", "or"])
        raise RequestError(f"There is no filter {asked.type!r}; there are: {known}.", f"{param}.type", "invalid_value")
    if asked.key is None:
        where = f"{param}.key"
        raise RequestError("A comparison needs an attribute's `key`.", where, "missing_required_parameter")
    return _comparison(Comparison(asked.type), asked.key, asked.value, f"{param}.value")


def _comparison(how: Comparison, key: str, value: object, param: str) -> Compare:
    if (how in (Comparison.IN, Comparison.NIN)) != isinstance(value, list):
        what = "a list" if not isinstance(value, list) else "one value"
        raise RequestError(f"`{how}` compares with {what}.", param, "invalid_value")
    values: list[Attribute] = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str | bool | int | float):
            raise RequestError("It compares with texts, numbers, true and false.", param, "invalid_value")
        values.append(each)
    return Compare(how, key, tuple(values))


def store_reply(store: Store, counts: Counts) -> VectorStore:
    is_expired = store.expires_at is not None and store.expires_at <= time.time()
    return VectorStore(
        id=store.id,
        created_at=store.created_at,
        name=store.name,
        description=store.description,
        usage_bytes=counts.size,
        file_counts=counts_reply(counts),
        status="expired" if is_expired else "in_progress" if counts.in_progress else "completed",
        expires_after=None if store.days is None else StoreExpiry(store.days),
        expires_at=store.expires_at,
        last_active_at=store.last_active_at,
        metadata=store.metadata,
    )


def counts_reply(counts: Counts) -> FileCounts:
    return FileCounts(counts.in_progress, counts.completed, counts.failed, counts.cancelled, counts.total)


def file_reply(member: Member, auto: Chunking) -> StoreFile:
    """`auto`: how it is cut where that was left open."""
    failure = member.failure
    return StoreFile(
        id=member.file_id,
        usage_bytes=member.size,
        created_at=member.created_at,
        vector_store_id=member.store_id,
        status=member.status,
        last_error=None if failure is None else LastError(failure.code, failure.message),
        chunking_strategy=ChunkingStrategy(StaticSizes(*(member.chunking or auto))),
        attributes=member.attributes,
    )


def batch_reply(batch: Batch, counts: Counts) -> FileBatch:
    is_cancelled = batch.cancelled_at is not None
    return FileBatch(
        id=batch.id,
        created_at=batch.created_at,
        vector_store_id=batch.store_id,
        status="cancelled" if is_cancelled else "in_progress" if counts.in_progress else "completed",
        file_counts=counts_reply(counts),
    )


def scored(hits: Sequence[Hit], threshold: float | None) -> list[tuple[Hit, float]]:
    """With scores as `relevance.calibrated_scores` tells them, those that reach the threshold. Their order stays."""
    both = zip(hits, calibrated_scores([hit.passage for hit in hits]), strict=True)
    return [(hit, score) for hit, score in both if score >= (threshold or 0.0)]


def result_reply(hit: Hit, score: float, base_url: str) -> StoreResult:
    return wire_passage(
        StoreResult,
        hit.passage,
        base_url,
        file_id=hit.file_id,
        filename=hit.filename,
        score=round(score, 4),
        attributes=hit.attributes,
        content=[ContentPart(hit.passage.shown)],
    )
