"""Record stores in memory. They pass the contract suites, as any further implementation must."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from server.access.principal import UNRESTRICTED, Principal
from server.errors import BatchNotFound, ResponseNotFound, TooManyBatches
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
    """A context manager over state that all principals share."""

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
        for id, (_, each) in list(self._records.items()):
            if sum(_size(kept) for _, kept in self._records.values()) > self._max_bytes and each.is_over:
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

    async def unfinished(self) -> list[str]:
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
        if len(await self.unfinished()) >= MAX_UNFINISHED:
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

    async def unfinished(self) -> list[BatchRecord]:
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

    def _held(self, job: Job) -> _QueuedJob | None:
        queued = self._jobs.get(job.id)
        return queued if queued is not None and queued.worker == job.worker else None

    async def extend(self, job: Job, lease_s: float) -> bool:
        if (queued := self._held(job)) is None:
            return False
        self._jobs[job.id] = replace(queued, due_at=time.monotonic() + lease_s)
        return True

    async def complete(self, job: Job) -> bool:
        if self._held(job) is None:
            return False
        del self._jobs[job.id]
        return True

    async def release(self, job: Job, delay_s: float = 0.0) -> bool:
        if (queued := self._held(job)) is None:
            return False
        self._jobs[job.id] = replace(queued, due_at=time.monotonic() + delay_s, worker=None)
        return True

    async def remove(self, subject: str) -> None:
        self._jobs = {id: queued for id, queued in self._jobs.items() if queued.job.subject != subject}
