"""Runs batches: checks the input file, answers its lines, writes the output and error files.

validating → in_progress → finalizing → completed, expired
          ↘ failed       ↘ cancelling → cancelled

Each handler may be begun again at any time: what it has committed to the batch store is not done twice.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence

import msgspec

from server.api.batches.endpoints import ENDPOINTS, LineAnswer
from server.api.batches.input_file import InputReader, InvalidInput
from server.api.batches.output_files import BatchOutcome, write_output_file
from server.api.batches.wire import LineResponse, OutputLine
from server.errors import BatchNotFound, FilesError
from server.http.problems import problem_of
from server.jobs.runner import JobHandler, retry_when_available
from server.services import Services
from server.storage.records import BatchError, BatchLine, BatchRecord, Job, LineOutcome, NewJob, RequestCounts

START, LINE, FILES = "batch_start", "batch_line", "batch_files"  # kinds of jobs


def start_job(batch_id: str) -> NewJob:
    """Return the job that begins a batch, or goes on with one that was interrupted."""
    return NewJob(id=f"{batch_id}/start", kind=START, subject=batch_id)


def files_job(batch_id: str, position: int | None = None) -> NewJob:
    """Return the job that ends a batch."""
    return NewJob(id=f"{batch_id}/files", kind=FILES, subject=batch_id, position=position)


class BatchWorker:
    """Handles the jobs of batches."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.batches

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """Return the handlers by kind, the kind that goes first first."""
        return {START: self.start, FILES: self.write_files, LINE: self.run_line}

    async def enqueue_unfinished(self) -> None:
        """Add a job for each batch that is not over, should the queue have lost it."""
        await self._services.jobs.add([start_job(batch.id) for batch in await self._store.list_unfinished()])

    async def start(self, job: Job) -> None:
        """Check the input of a new batch, and add the jobs that are left to be done for it."""
        try:
            batch = await self._store.get(job.subject)
        except BatchNotFound:
            return
        if batch.status == "validating":
            batch = await self._validate(batch)
        if batch.is_over:
            return
        numbers = await self._store.undone_numbers(batch.id) if batch.status == "in_progress" else []
        wait_s = max(batch.expires_at - time.time(), 0.0) if numbers else 0.0
        await self._services.jobs.add([files_job(batch.id, job.position)], wait_s)
        lines = [
            NewJob(id=f"{batch.id}/{number}", kind=LINE, subject=batch.id, part=number, position=job.position)
            for number in numbers
        ]
        await self._services.jobs.add(lines)

    async def _validate(self, batch: BatchRecord) -> BatchRecord:
        await self._store.clear_lines(batch.id)
        errors: Sequence[BatchError] = ()
        num_lines = 0
        try:
            num_lines = await self._read_lines(batch)
        except InvalidInput as error:
            errors = error.errors
        except FilesError as error:
            errors = [BatchError("invalid_file", str(error), param="input_file_id")]
        now = int(time.time())

        def change(current: BatchRecord) -> BatchRecord:
            if current.status != "validating":  # it was cancelled meanwhile
                return current
            if errors:
                return msgspec.structs.replace(current, status="failed", failed_at=now, errors=tuple(errors))
            counts = RequestCounts(num_lines)
            return msgspec.structs.replace(current, status="in_progress", in_progress_at=now, request_counts=counts)

        return await self._store.update(batch.id, change)

    async def _read_lines(self, batch: BatchRecord) -> int:
        """Copy the lines of the input file into the store; return how many there are."""
        options = await self._store.options(batch.id)
        file = await self._services.seen_by(options.principal).files.open_file(batch.input_file_id)
        with contextlib.closing(file):
            reader = InputReader(file, batch.endpoint)
            while lines := await asyncio.to_thread(reader.next_lines):
                await self._store.add_lines(batch.id, lines)
        return reader.num_lines

    async def run_line(self, job: Job) -> None:
        """Answer a line; an error is its answer too."""
        line = await self._store.undone_line(job.subject, job.part)
        if line is None or (batch := await self._store.get(job.subject)).status != "in_progress":
            return
        outcome, answer = await self._answer(batch, line)

        def change(current: BatchRecord) -> BatchRecord:
            counts, usage = current.request_counts, current.usage
            return msgspec.structs.replace(
                current,
                request_counts=RequestCounts(
                    counts.total, counts.completed + (not outcome.is_error), counts.failed + outcome.is_error
                ),
                usage=usage if answer is None else answer.usage if usage is None else usage + answer.usage,
            )

        changed = await self._store.finish_line(batch.id, line.number, outcome, change)
        if changed is not None and not _num_undone(changed):
            await self._services.jobs.add([files_job(batch.id, job.position)])

    async def _answer(self, batch: BatchRecord, line: BatchLine) -> tuple[LineOutcome, LineAnswer | None]:
        options = await self._store.options(batch.id)
        services = self._services.seen_by(options.principal)
        answer: LineAnswer | None = None
        try:
            endpoint = ENDPOINTS[batch.endpoint]
            answer = await retry_when_available(lambda: endpoint(line.body, services, options.base_url))
            status, body = 200, msgspec.json.encode(answer.body)
        except Exception as error:  # the client finds it in the error file
            problem = problem_of(error)
            status, body = problem.status, msgspec.json.encode(problem.body)
        response = LineResponse(status, f"req_{secrets.token_hex(12)}", msgspec.Raw(body))
        output = OutputLine(f"batch_req_{secrets.token_hex(12)}", line.custom_id, response)
        return LineOutcome(msgspec.json.encode(output), is_error=answer is None), answer

    async def write_files(self, job: Job) -> None:
        """Write the files of a batch of which no line is run any more, and end the batch."""
        now = int(time.time())

        def finalize(current: BatchRecord) -> BatchRecord:
            if current.status != "in_progress" or (_num_undone(current) and current.expires_at > now):
                return current
            return msgspec.structs.replace(current, status="finalizing", finalizing_at=now)

        batch = await self._store.update(job.subject, finalize)
        if batch.status not in ("finalizing", "cancelling"):
            return
        options = await self._store.options(batch.id)
        files = self._services.seen_by(options.principal).files
        outcome = _outcome(batch)
        output_file_id = await write_output_file(self._store, files, batch, options, outcome, is_error=False)
        error_file_id = await write_output_file(self._store, files, batch, options, outcome, is_error=True)
        ended_at = {f"{outcome}_at": int(time.time())}

        def end(current: BatchRecord) -> BatchRecord:
            return msgspec.structs.replace(
                current, status=outcome, output_file_id=output_file_id, error_file_id=error_file_id, **ended_at
            )

        await self._store.update(batch.id, end)
        await self._services.jobs.remove(batch.id)


def _outcome(batch: BatchRecord) -> BatchOutcome:
    if batch.status == "cancelling":
        return "cancelled"
    return "expired" if _num_undone(batch) else "completed"


def _num_undone(batch: BatchRecord) -> int:
    counts = batch.request_counts
    return counts.total - counts.completed - counts.failed
