"""The record stores of the server as Protocols. Implementations are in `sqlite/` and `local/`; the store of
API keys is `server.access.keys.KeyStore`.

`seen_by` narrows a store to what one principal may see; for it, a record of somebody else does not exist. Every method
may raise a `StorageError` of `index.errors`; nothing of a database's own errors or types passes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from server.access.principal import Principal
from server.storage.file_records import (
    Attachment,
    Attributes,
    FileBatchRecord,
    FileToAttach,
    StoredFile,
    VectorStoreRecord,
)
from server.storage.records import (
    AuditEntry,
    BatchLine,
    BatchOptions,
    BatchRecord,
    Job,
    LineOutcome,
    LineResult,
    NewJob,
    ResponseRecord,
)


class TurnStore(Protocol):
    """A cache of what the turns of conversations were grounded on. It never raises: what cannot be read or written is
    not known."""

    async def recall(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Return the turns that are known, by their keys. Counts as a use of them."""
        ...

    def remember(self, key: bytes, turn: bytes) -> None:
        """Keep a turn, in the background; a `recall` that follows finds it. Replaces one with the same key."""
        ...


class ResponseStore(Protocol):
    """Responses, within a number of bytes: adding one removes those used least recently, but none that is not over."""

    def seen_by(self, principal: Principal) -> "ResponseStore": ...

    async def add(self, record: ResponseRecord) -> None:
        """Add a response, which the store's principal owns. It may be larger than the room there is; then it goes with
        the next one."""
        ...

    async def get(self, id: str) -> ResponseRecord:
        """Raises `ResponseNotFound`."""
        ...

    async def history(self, id: str) -> list[ResponseRecord]:
        """Return the chain of responses that leads to this one, the first of the conversation first. Counts as a use of
        all of them. Raises `ResponseNotFound`, also for one before it."""
        ...

    async def find_by_output(self, output_ids: Sequence[str]) -> list[ResponseRecord]:
        """Return the responses that have output items with these ids, as far as there are any."""
        ...

    async def update(self, record: ResponseRecord) -> bool:
        """Replace a response that is not over. Return False, and change nothing, when it is over or gone."""
        ...

    async def remove(self, id: str) -> None:
        """Raises `ResponseNotFound`."""
        ...

    async def list_unfinished(self) -> list[str]:
        """Return the ids of all responses that are not over, in the order they were added."""
        ...


class BatchStore(Protocol):
    """Batches and their lines. The lines are deleted when the batch is over; the batch itself stays."""

    def seen_by(self, principal: Principal) -> "BatchStore": ...

    async def add(self, batch: BatchRecord, options: BatchOptions) -> None:
        """Add a batch, which the store's principal owns. Raises `TooManyBatches`."""
        ...

    async def get(self, id: str) -> BatchRecord:
        """Raises `BatchNotFound`."""
        ...

    async def options(self, id: str) -> BatchOptions:
        """Raises `BatchNotFound`."""
        ...

    async def list_batches(self) -> list[BatchRecord]:
        """Return the batches in the order they were added."""
        ...

    async def list_unfinished(self) -> list[BatchRecord]:
        """Return all batches that are not over, in the order they were added."""
        ...

    async def update(self, id: str, change: Callable[[BatchRecord], BatchRecord]) -> BatchRecord:
        """Replace a batch by what `change` makes of it, in one transaction, and return that. Raises `BatchNotFound`."""
        ...

    async def clear_lines(self, id: str) -> None: ...

    async def add_lines(self, id: str, lines: Sequence[BatchLine]) -> None: ...

    async def undone_line(self, id: str, number: int) -> BatchLine | None:
        """Return a line that has no outcome yet; None when it has one, or is gone."""
        ...

    async def undone_numbers(self, id: str) -> list[int]:
        """Return the numbers of the lines that have no outcome yet, ascending."""
        ...

    async def finish_line(
        self, id: str, number: int, outcome: LineOutcome, change: Callable[[BatchRecord], BatchRecord]
    ) -> BatchRecord | None:
        """Keep a line's outcome and update the batch, in one transaction. Return the batch; None, without a change,
        for a line that has an outcome or is gone, and when the batch is not in progress any more."""
        ...

    async def results(self, id: str, after: int, limit: int) -> list[LineResult]:
        """Return the next lines behind the number `after`."""
        ...


class FileRepository(Protocol):
    """Records of uploaded files and vector stores, and of which file is attached to which store.

    A principal that sees some collections only sees its own files and stores; all others see everybody's. The methods
    about what is in a store, or where a file is, are not narrowed: call them with ids that `get_store` or `get_file`
    returned.
    """

    def seen_by(self, principal: Principal) -> "FileRepository": ...

    async def add_file(self, file: StoredFile, max_total_bytes: int) -> StoredFile:
        """Add a file, and return it with its owner. Raises `FileQuotaExceeded` when all files together would be larger
        than `max_total_bytes`."""
        ...

    async def get_file(self, id: str) -> StoredFile:
        """Raises `StoredFileNotFound`."""
        ...

    async def list_files(self, purpose: str | None = None) -> list[StoredFile]:
        """Return the files in the order they were added; those for `purpose` only, where given."""
        ...

    async def remove_file(self, id: str) -> list[Attachment]:
        """Remove a file, and return what it was attached to. Raises `StoredFileNotFound`."""
        ...

    async def expired_file_ids(self, now: int) -> list[str]: ...

    async def add_store(self, store: VectorStoreRecord, files: Sequence[FileToAttach] = ()) -> VectorStoreRecord:
        """Add a store with these files, and return it with its owner. Raises `StoredFileNotFound`."""
        ...

    async def get_store(self, id: str) -> VectorStoreRecord:
        """Raises `VectorStoreNotFound`."""
        ...

    async def list_stores(self) -> list[VectorStoreRecord]:
        """Return the stores in the order they were added."""
        ...

    async def update_store(self, store: VectorStoreRecord) -> None:
        """Replace name, description, expiry, metadata and last use of a store."""
        ...

    async def touch_stores(self, ids: Sequence[str], now: int) -> None:
        """Note a use of these stores, to the minute."""
        ...

    async def remove_store(self, id: str) -> list[Attachment]:
        """Remove a store, and return what was attached to it. Raises `VectorStoreNotFound`."""
        ...

    async def empty_expired_stores(self, now: int) -> list[Attachment]:
        """Detach all files from the stores that have expired, whoever's they are, and return what was attached."""
        ...

    async def attach(self, store_id: str, files: Sequence[FileToAttach], batch: FileBatchRecord | None = None) -> None:
        """Attach files to a store; one that is attached takes over the new attributes and chunking. With `batch`, note
        that they belong together. Raises `StoredFileNotFound`."""
        ...

    async def attachments(
        self, *, store_id: str | None = None, file_id: str | None = None, batch_id: str | None = None
    ) -> list[Attachment]:
        """Return what meets all conditions that are given, in the order it was attached."""
        ...

    async def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None: ...

    async def detach(self, store_id: str, file_id: str) -> list[Attachment]:
        """Detach a file from a store, and return what was attached: one attachment, or none."""
        ...

    async def get_batch(self, store_id: str, id: str) -> FileBatchRecord:
        """Raises `FileBatchNotFound`."""
        ...

    async def cancel_batch(self, batch: FileBatchRecord, file_ids: Collection[str], now: int) -> None:
        """Cancel a batch, and of its files these."""
        ...

    async def first_seen_at(self, collection: str, now: int) -> int:
        """Return when this was first called for the collection."""
        ...


class JobStore(Protocol):
    """A queue of jobs. A job is leased to one worker at a time; when the lease ends without `complete`, another worker
    may have it, so a job is begun at least once and its handler must bear being begun again."""

    async def add(self, jobs: Sequence[NewJob], delay_s: float = 0.0) -> None:
        """Add jobs, which are due after `delay_s`. A job whose id is there already becomes due by then, unless it is
        due earlier or leased."""
        ...

    async def lease(self, kinds: Sequence[str], worker: str, lease_s: float) -> Job | None:
        """Give `worker` the first job that is due and that nobody holds, of the first kind that has one."""
        ...

    async def extend(self, job: Job, lease_s: float) -> bool:
        """Hold the job so much longer from now. Return False when the worker does not hold it any more."""
        ...

    async def complete(self, job: Job) -> bool:
        """Delete a job that is done. Return False, without a change, when the worker does not hold it any more."""
        ...

    async def release(self, job: Job, delay_s: float = 0.0) -> bool:
        """Let others have the job after `delay_s`. Return False when the worker does not hold it any more."""
        ...

    async def remove(self, subject: str) -> None:
        """Delete all jobs of a subject, also those that are held; their workers learn it from `extend`."""
        ...


class AuditSink(Protocol):
    """A destination of audit entries."""

    def write(self, entry: AuditEntry) -> None:
        """Append an entry. Raises `OSError` when it cannot be kept."""
        ...

    def close(self) -> None: ...
