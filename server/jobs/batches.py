"""Batches on their way: their input is checked, their lines are run, their files are written.

validating → in_progress → finalizing → completed, expired
          ↘ failed       ↘ cancelling → cancelled
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec

from server.api.batches.endpoints import ENDPOINTS, Outcome, added
from server.api.batches.input_file import InputReader, InvalidInput
from server.api.batches.wire import (
    Batch,
    BatchError,
    BatchErrors,
    LineError,
    LineResponse,
    OutputLine,
    RequestCounts,
)
from server.errors import FilesError
from server.files.service import Library
from server.http.problems import problem_of
from server.jobs.runner import Work, retry_when_available
from server.services import Services
from server.storage.sqlite.batches import BatchStore, Done, Line

_PAGE = 500  # lines
_PAUSE_S = 30.0  # after what should not go wrong: the disk is full, say
_UNDONE = {
    "expired": LineError("batch_expired", "This line was not run before the batch expired."),
    "cancelled": LineError("batch_cancelled", "This line was not run before the batch was cancelled."),
}


class _Progress:
    """Of a batch in this run of the server: what has been given out."""

    def __init__(self) -> None:
        self.after = 0  # the number of the last line
        self.under_way: set[asyncio.Task[None]] = set()
        self.is_busy = False  # its input is being read, or its files written
        self.resumes_at = 0.0  # monotonic seconds

    def pause(self) -> None:
        self.resumes_at = time.monotonic() + _PAUSE_S


async def _then_free(work: Work, progress: _Progress) -> None:
    try:
        await work
    except BaseException:
        progress.pause()
        raise
    finally:
        progress.is_busy = False


class BatchWork:
    """Where the backlog finds it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store: BatchStore = services.batches
        self._progress: dict[str, _Progress] = {}

    async def claim(self) -> Work | None:
        for batch in await self._store.unfinished():
            progress = self._progress.setdefault(batch.id, _Progress())
            if progress.is_busy or progress.resumes_at > time.monotonic():
                continue
            if (work := await self._next(batch, progress)) is not None:
                return work
        return None

    async def stop(self, id: str) -> None:
        """No line of it goes on. What is kept of it is for the caller to change."""
        if (progress := self._progress.get(id)) is not None:
            for task in progress.under_way:
                task.cancel()

    async def _next(self, batch: Batch, progress: _Progress) -> Work | None:
        match batch.status:
            case "validating":
                return self._alone(self._validate(batch), progress)
            case "in_progress":
                return await self._next_line(batch, progress)
            case "cancelling":
                return None if progress.under_way else self._alone(self._finalize(batch, "cancelled"), progress)
            case _:
                outcome: Literal["expired", "completed"] = "expired" if _is_late(batch) else "completed"
                return self._alone(self._finalize(batch, outcome), progress)

    async def _next_line(self, batch: Batch, progress: _Progress) -> Work | None:
        is_expired = batch.expires_at <= time.time()
        if is_expired:
            await self.stop(batch.id)
        elif (line := await self._store.next_line(batch.id, progress.after)) is not None:
            progress.after = line.number
            task = asyncio.create_task(self._run(batch, line))
            progress.under_way.add(task)
            return self._attended(task, progress)
        if progress.under_way:
            return None
        if not is_expired and await self._store.next_line(batch.id, 0) is not None:  # its outcome could not be kept
            progress.after = 0
            progress.pause()
            return None
        now = int(time.time())
        finalizing = await self._store.change(batch.id, lambda each: _finalizing(each, now))
        return await self._next(finalizing, progress)

    def _alone(self, work: Work, progress: _Progress) -> Work:
        progress.is_busy = True
        return _then_free(work, progress)

    async def _attended(self, task: "asyncio.Task[None]", progress: _Progress) -> None:
        """Until it is done, or was stopped."""
        try:
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
        finally:
            task.cancel()
            progress.under_way.discard(task)

    # The input

    async def _validate(self, batch: Batch) -> None:
        """From the beginning, should it have been begun before."""
        await self._store.clear_lines(batch.id)
        errors: list[BatchError] = []
        num_lines = 0
        try:
            num_lines = await self._read(batch)
        except InvalidInput as error:
            errors = error.errors
        except FilesError as error:
            errors = [BatchError("invalid_file", str(error), param="input_file_id")]
        now = int(time.time())

        def change(each: Batch) -> Batch:
            if each.status != "validating":  # cancelled meanwhile
                return each
            if errors:
                return msgspec.structs.replace(each, status="failed", failed_at=now, errors=BatchErrors(errors))
            counts = RequestCounts(num_lines)
            return msgspec.structs.replace(each, status="in_progress", in_progress_at=now, request_counts=counts)

        await self._store.change(batch.id, change)

    async def _read(self, batch: Batch) -> int:
        library = await self._library(batch)
        file = await library.open(batch.input_file_id)
        with contextlib.closing(file):
            reader = InputReader(file, batch.endpoint)
            while group := await asyncio.to_thread(reader.group):
                await self._store.add_lines(batch.id, group)
        return reader.num_lines

    async def _library(self, batch: Batch) -> Library:
        """As whoever made the batch sees it."""
        order = await self._store.order(batch.id)
        return self._services.seen_by(order.principal).library

    # The lines

    async def _run(self, batch: Batch, line: Line) -> None:
        order = await self._store.order(batch.id)
        services = self._services.seen_by(order.principal)
        endpoint = ENDPOINTS[batch.endpoint]
        outcome: Outcome | None = None
        try:
            outcome = await retry_when_available(lambda: endpoint(line.body, services, order.base_url))
            status, body = 200, msgspec.json.encode(outcome.body)
        except Exception as error:  # told in the error file
            problem = problem_of(error)
            status, body = problem.status, msgspec.json.encode(problem.body)
        response = LineResponse(status, f"req_{secrets.token_hex(12)}", msgspec.Raw(body))
        done = Done(_output(OutputLine(_line_id(), line.custom_id, response)), is_error=outcome is None)

        def change(each: Batch) -> Batch:
            counts = each.request_counts
            completed, failed = counts.completed + (not done.is_error), counts.failed + done.is_error
            usage = each.usage if outcome is None else added(each.usage, outcome.usage)
            return msgspec.structs.replace(
                each, request_counts=RequestCounts(counts.total, completed, failed), usage=usage
            )

        await self._store.finish_line(batch.id, line.number, done, change)

    # The files

    async def _finalize(self, batch: Batch, outcome: Literal["completed", "expired", "cancelled"]) -> None:
        library, order = await self._library(batch), await self._store.order(batch.id)
        file_ids: dict[str, str | None] = {}
        for kind, is_error in (("output", False), ("error", True)):
            has_any = [done async for done in self._told(batch, outcome, is_error=is_error, most=1)]
            file_ids[f"{kind}_file_id"] = (
                await self._write(library, batch, outcome, kind, order.keep_s) if has_any else None
            )
        now = int(time.time())

        def change(each: Batch) -> Batch:
            times: dict[str, Any] = {f"{outcome}_at": now}
            return msgspec.structs.replace(each, status=outcome, **times, **file_ids)

        await self._store.change(batch.id, change)
        self._progress.pop(batch.id, None)

    async def _write(self, library: Library, batch: Batch, outcome: str, kind: str, keep_s: int | None) -> str:
        """Once, also when the server ends between this and the batch's note of it: the file's name tells."""
        name, purpose = f"{batch.id}_{kind}.jsonl", "batch_output"
        for file in await library.files(purpose):
            if file.filename == name:
                return file.id
        async with library.receiving() as incoming:
            async for output in self._told(batch, outcome, is_error=kind == "error"):
                await incoming.write(output + b"\n")
            expires_at = None if keep_s is None else int(time.time()) + keep_s
            return (await library.keep(incoming, name, purpose, expires_at)).id

    async def _told(
        self, batch: Batch, outcome: str, *, is_error: bool, most: int | None = None
    ) -> AsyncIterator[bytes]:
        """Lines of the output or the error file, in the order of the input."""
        after, num_told = 0, 0
        while page := await self._store.lines(batch.id, after, _PAGE):
            after = page[-1][0].number
            for line, done in page:
                done = done or Done(_output(OutputLine(_line_id(), line.custom_id, None, _UNDONE[outcome])), True)
                if done.is_error is is_error:
                    yield done.output
                    num_told += 1
                    if num_told == most:
                        return


def _is_late(batch: Batch) -> bool:
    """Whether some of its lines were given up."""
    counts = batch.request_counts
    return counts.completed + counts.failed < counts.total


def _finalizing(batch: Batch, now: int) -> Batch:
    if batch.status != "in_progress":
        return batch
    return msgspec.structs.replace(batch, status="finalizing", finalizing_at=now)


def _line_id() -> str:
    return f"batch_req_{secrets.token_hex(12)}"


def _output(line: OutputLine) -> bytes:
    return msgspec.json.encode(line)
