"""The output and error files of a batch."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from server.api.batches.wire import LineError, OutputLine
from server.files.service import FileService
from server.storage.base import BatchStore
from server.storage.records import BatchOptions, BatchRecord, LineOutcome

BatchOutcome = Literal["completed", "expired", "cancelled"]
_PAGE = 500  # lines
_UNDONE = {
    "expired": LineError("batch_expired", "This line was not run before the batch expired."),
    "cancelled": LineError("batch_cancelled", "This line was not run before the batch was cancelled."),
}


async def write_output_file(
    store: BatchStore,
    files: FileService,
    batch: BatchRecord,
    options: BatchOptions,
    outcome: BatchOutcome,
    *,
    is_error: bool,
) -> str | None:
    """Write the lines that have answers, or with `is_error` those that failed, in the order of the input.

    Return the file's id; None when there are no such lines. A file that an interrupted attempt wrote is found again by
    its name.
    """
    name, purpose = f"{batch.id}_{'error' if is_error else 'output'}.jsonl", "batch_output"
    for file in await files.list_files(purpose):
        if file.filename == name:
            return file.id
    async with files.receive() as incoming:
        async for line in _output_lines(store, batch.id, outcome, is_error=is_error):
            await incoming.write(line + b"\n")
        if not incoming.size:
            return None
        expires_at = None if options.keep_s is None else int(time.time()) + options.keep_s
        return (await files.add_file(incoming, name, purpose, expires_at)).id


async def _output_lines(
    store: BatchStore, batch_id: str, batch_outcome: BatchOutcome, *, is_error: bool
) -> AsyncIterator[bytes]:
    after = 0
    while results := await store.results(batch_id, after, _PAGE):
        after = results[-1].number
        for result in results:
            outcome = result.outcome or _undone(result.custom_id, batch_outcome)
            if outcome.is_error is is_error:
                yield outcome.output


def _undone(custom_id: str, batch_outcome: BatchOutcome) -> LineOutcome:
    output = OutputLine(f"batch_req_{secrets.token_hex(12)}", custom_id, None, _UNDONE[batch_outcome])
    return LineOutcome(msgspec.json.encode(output), is_error=True)
