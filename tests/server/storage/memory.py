"""Record stores in memory. They pass the contract suites, as any further implementation must."""

import copy
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import msgspec

from server.access.principal import UNRESTRICTED, Principal
from server.errors import (
    BatchNotFound,
    FileBatchNotFound,
    FileQuotaExceeded,
    ResponseNotFound,
    StoredFileNotFound,
    TooManyBatches,
    VectorStoreNotFound,
)
from server.storage.file_records import (
    Attachment,
    Attributes,
    FileBatchRecord,
    FileToAttach,
    StoredFile,
    VectorStoreRecord,
)
from server.storage.records import (
    BatchLine,
    BatchOptions,
    BatchRecord,
    Job,
    LineOutcome,
    LineResult,
    NewJob,
    ResponseRecord,
)

MAX_UNFINISHED = 100  # batches


class _Store:
    """The context manager and the principal of a record store; all principals share its state."""

    _principal = UNRESTRICTED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def seen_by(self, principal: Principal) -> Self:
        narrowed = copy.copy(self)
        narrowed._principal = principal
        return narrowed


class MemoryTurnStore(_Store):
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._turns: dict[bytes, bytes] = {}  # used least recently first

    async def recall(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        turns = {key: self._turns.pop(key) for key in keys if key in self._turns}
        self._turns |= turns
        return turns

    def remember(self, key: bytes, turn: bytes) -> None:
        self._turns.pop(key, None)
        self._turns[key] = turn
        while sum(map(len, self._turns.values())) > self._max_bytes:
            del self._turns[next(iter(self._turns))]


class MemoryResponseStore(_Store):
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: dict[str, tuple[str, ResponseRecord]] = {}  # owner and record, used least recently first
        self._order: list[str] = []

    async def add(self, record: ResponseRecord) -> None:
        for id, (_, oldest) in list(self._records.items()):
            if sum(_size(record) for _, record in self._records.values()) > self._max_bytes and oldest.is_over:
                del self._records[id]
        self._records[record.id] = (self._principal.owner, record)
        self._order.append(record.id)

    async def get(self, id: str) -> ResponseRecord:
        owner, record = self._records.get(id, ("", None))
        if record is None or not self._principal.owns(owner):
            raise ResponseNotFound(id)
        self._records[id] = self._records.pop(id)
        return record

    async def history(self, id: str) -> list[ResponseRecord]:
        chain = [await self.get(id)]
        while (previous_id := chain[0].previous_id) is not None:
            chain.insert(0, await self.get(previous_id))
        return chain

    async def find_by_output(self, output_ids: Sequence[str]) -> list[ResponseRecord]:
        return [
            record
            for owner, record in self._records.values()
            if self._principal.owns(owner) and set(record.output_ids) & set(output_ids)
        ]

    async def update(self, record: ResponseRecord) -> bool:
        owner, current = self._records.get(record.id, ("", None))
        if current is None or current.is_over:
            return False
        self._records[record.id] = (owner, record)
        return True

    async def remove(self, id: str) -> None:
        await self.get(id)
        del self._records[id]

    async def list_unfinished(self) -> list[str]:
        return [id for id in self._order if id in self._records and not self._records[id][1].is_over]


def _size(record: ResponseRecord) -> int:
    return len(record.response) + len(record.input_items) + len(record.pending or b"")


@dataclass
class _Batch:
    owner: str
    record: BatchRecord
    options: BatchOptions
    lines: dict[int, tuple[BatchLine, LineOutcome | None]] = field(default_factory=dict)


class MemoryBatchStore(_Store):
    def __init__(self) -> None:
        self._batches: dict[str, _Batch] = {}

    async def add(self, batch: BatchRecord, options: BatchOptions) -> None:
        if len(await self.list_unfinished()) >= MAX_UNFINISHED:
            raise TooManyBatches(MAX_UNFINISHED)
        self._batches[batch.id] = _Batch(self._principal.owner, batch, options)

    def _find(self, id: str) -> _Batch:
        if id not in self._batches or not self._principal.owns(self._batches[id].owner):
            raise BatchNotFound(id)
        return self._batches[id]

    async def get(self, id: str) -> BatchRecord:
        return self._find(id).record

    async def options(self, id: str) -> BatchOptions:
        return self._find(id).options

    async def list_batches(self) -> list[BatchRecord]:
        return [batch.record for batch in self._batches.values() if self._principal.owns(batch.owner)]

    async def list_unfinished(self) -> list[BatchRecord]:
        return [batch.record for batch in self._batches.values() if not batch.record.is_over]

    async def update(self, id: str, change: Callable[[BatchRecord], BatchRecord]) -> BatchRecord:
        batch = self._find(id)
        batch.record = change(batch.record)
        if batch.record.is_over:
            batch.lines.clear()
        return batch.record

    async def clear_lines(self, id: str) -> None:
        self._batches[id].lines.clear()

    async def add_lines(self, id: str, lines: Sequence[BatchLine]) -> None:
        self._batches[id].lines |= {line.number: (line, None) for line in lines}

    async def undone_line(self, id: str, number: int) -> BatchLine | None:
        line, outcome = self._batches[id].lines.get(number, (None, None))
        return line if outcome is None else None

    async def undone_numbers(self, id: str) -> list[int]:
        return [number for number, (_, outcome) in self._batches[id].lines.items() if outcome is None]

    async def finish_line(
        self, id: str, number: int, outcome: LineOutcome, change: Callable[[BatchRecord], BatchRecord]
    ) -> BatchRecord | None:
        line = await self.undone_line(id, number)
        if line is None or self._find(id).record.status != "in_progress":
            return None
        self._batches[id].lines[number] = (line, outcome)
        return await self.update(id, change)

    async def results(self, id: str, after: int, limit: int) -> list[LineResult]:
        lines = [
            LineResult(number, line.custom_id, outcome)
            for number, (line, outcome) in sorted(self._batches[id].lines.items())
            if number > after
        ]
        return lines[:limit]


@dataclass(frozen=True)
class _QueuedJob:
    job: NewJob
    position: int
    due_at: float  # monotonic seconds: when it may be leased, or its lease ends
    worker: str | None = None


class MemoryJobStore(_Store):
    def __init__(self) -> None:
        self._jobs: dict[str, _QueuedJob] = {}

    async def add(self, jobs: Sequence[NewJob], delay_s: float = 0.0) -> None:
        due_at = time.monotonic() + delay_s
        for job in jobs:
            queued = self._jobs.get(job.id)
            if queued is None:
                behind_all = max((each.position for each in self._jobs.values()), default=0) + 1
                self._jobs[job.id] = _QueuedJob(job, behind_all if job.position is None else job.position, due_at)
            elif queued.worker is None:
                self._jobs[job.id] = replace(queued, due_at=min(queued.due_at, due_at))

    async def lease(self, kinds: Sequence[str], worker: str, lease_s: float) -> Job | None:
        now = time.monotonic()
        due = [queued for queued in self._jobs.values() if queued.job.kind in kinds and queued.due_at <= now]
        if not due:
            return None
        first = min(due, key=lambda queued: (kinds.index(queued.job.kind), queued.position))
        self._jobs[first.job.id] = replace(first, due_at=now + lease_s, worker=worker)
        job = first.job
        return Job(id=job.id, kind=job.kind, subject=job.subject, part=job.part, position=first.position, worker=worker)

    def _job_of_worker(self, job: Job) -> _QueuedJob | None:
        queued = self._jobs.get(job.id)
        return queued if queued is not None and queued.worker == job.worker else None

    async def extend(self, job: Job, lease_s: float) -> bool:
        if (queued := self._job_of_worker(job)) is None:
            return False
        self._jobs[job.id] = replace(queued, due_at=time.monotonic() + lease_s)
        return True

    async def complete(self, job: Job) -> bool:
        if self._job_of_worker(job) is None:
            return False
        del self._jobs[job.id]
        return True

    async def release(self, job: Job, delay_s: float = 0.0) -> bool:
        if (queued := self._job_of_worker(job)) is None:
            return False
        self._jobs[job.id] = replace(queued, due_at=time.monotonic() + delay_s, worker=None)
        return True

    async def remove(self, subject: str) -> None:
        self._jobs = {id: queued for id, queued in self._jobs.items() if queued.job.subject != subject}


class MemoryFileRepository(_Store):
    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}
        self._stores: dict[str, VectorStoreRecord] = {}
        self._attachments: dict[tuple[str, str], Attachment] = {}  # by store and file
        self._batches: dict[str, tuple[FileBatchRecord, set[str]]] = {}
        self._seen: dict[str, int] = {}

    @property
    def _owner(self) -> str:
        return "" if self._principal.collections is None else self._principal.owner

    def _is_visible(self, owner: str) -> bool:
        return self._principal.collections is None or owner == self._owner

    async def add_file(self, file: StoredFile, max_total_bytes: int) -> StoredFile:
        if sum(each.size for each in self._files.values()) + file.size > max_total_bytes:
            raise FileQuotaExceeded(max_total_bytes)
        self._files[file.id] = msgspec.structs.replace(file, owner=self._owner)
        return self._files[file.id]

    async def get_file(self, id: str) -> StoredFile:
        if id not in self._files or not self._is_visible(self._files[id].owner):
            raise StoredFileNotFound(id)
        return self._files[id]

    async def list_files(self, purpose: str | None = None) -> list[StoredFile]:
        files = (file for file in self._files.values() if self._is_visible(file.owner))
        return [file for file in files if purpose in (None, file.purpose)]

    async def remove_file(self, id: str) -> list[Attachment]:
        await self.get_file(id)
        del self._files[id]
        return self._pop(await self.attachments(file_id=id))

    async def expired_file_ids(self, now: int) -> list[str]:
        return [file.id for file in self._files.values() if file.expires_at is not None and file.expires_at <= now]

    async def add_store(self, store: VectorStoreRecord, files: Sequence[FileToAttach] = ()) -> VectorStoreRecord:
        for file in files:
            await self.get_file(file.file_id)
        self._stores[store.id] = msgspec.structs.replace(store, owner=self._owner)
        await self.attach(store.id, files)
        return self._stores[store.id]

    async def get_store(self, id: str) -> VectorStoreRecord:
        if id not in self._stores or not self._is_visible(self._stores[id].owner):
            raise VectorStoreNotFound(id)
        return self._stores[id]

    async def list_stores(self) -> list[VectorStoreRecord]:
        return [store for store in self._stores.values() if self._is_visible(store.owner)]

    async def update_store(self, store: VectorStoreRecord) -> None:
        self._stores[store.id] = store

    async def touch_stores(self, ids: Sequence[str], now: int) -> None:
        for id in ids:
            if self._stores[id].last_active_at < now - 60:
                self._stores[id] = msgspec.structs.replace(self._stores[id], last_active_at=now)

    async def remove_store(self, id: str) -> list[Attachment]:
        await self.get_store(id)
        del self._stores[id]
        return self._pop(await self.attachments(store_id=id))

    async def empty_expired_stores(self, now: int) -> list[Attachment]:
        expired = [store.id for store in self._stores.values() if store.is_expired(now)]
        return [each for id in expired for each in self._pop(await self.attachments(store_id=id))]

    async def attach(self, store_id: str, files: Sequence[FileToAttach], batch: FileBatchRecord | None = None) -> None:
        stored = [await self.get_file(file.file_id) for file in files]
        for file, to_attach in zip(stored, files, strict=True):
            self._attachments[store_id, file.id] = Attachment(
                store_id=store_id,
                file=file,
                created_at=int(time.time()),
                attributes=to_attach.attributes,
                chunking=to_attach.chunking,
                is_cancelled=False,
                failure=to_attach.failure,
            )
        if batch is not None:
            self._batches[batch.id] = (batch, {file.id for file in stored})

    async def attachments(
        self, *, store_id: str | None = None, file_id: str | None = None, batch_id: str | None = None
    ) -> list[Attachment]:
        batch_files = self._batches[batch_id][1] if batch_id is not None else set[str]()
        return [
            attachment
            for (its_store, its_file), attachment in self._attachments.items()
            if store_id in (None, its_store)
            and file_id in (None, its_file)
            and (batch_id is None or its_file in batch_files)
        ]

    def _pop(self, attachments: list[Attachment]) -> list[Attachment]:
        for each in attachments:
            del self._attachments[each.store_id, each.file.id]
        return attachments

    async def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        attachment = self._attachments[store_id, file_id]
        self._attachments[store_id, file_id] = msgspec.structs.replace(attachment, attributes=attributes)

    async def detach(self, store_id: str, file_id: str) -> list[Attachment]:
        return self._pop(await self.attachments(store_id=store_id, file_id=file_id))

    async def get_batch(self, store_id: str, id: str) -> FileBatchRecord:
        batch, _ = self._batches.get(id, (None, None))
        if batch is None or batch.store_id != store_id:
            raise FileBatchNotFound(id)
        return batch

    async def cancel_batch(self, batch: FileBatchRecord, file_ids: Collection[str], now: int) -> None:
        cancelled = msgspec.structs.replace(batch, cancelled_at=now)
        self._batches[batch.id] = (cancelled, self._batches[batch.id][1])
        for id in file_ids:
            attachment = self._attachments[batch.store_id, id]
            self._attachments[batch.store_id, id] = msgspec.structs.replace(attachment, is_cancelled=True)

    async def first_seen_at(self, collection: str, now: int) -> int:
        return self._seen.setdefault(collection, now)
