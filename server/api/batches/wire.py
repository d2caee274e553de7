"""Wire types of /v1/batches, as OpenAI defines them. Unknown fields are ignored and null means absent."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.api.responses.wire import ResponseUsage
from server.api.vector_stores.wire import Metadata
from server.storage.records import BatchError, BatchStatus, RequestCounts


class OutputExpiry(msgspec.Struct, frozen=True):
    """The time after which the output files expire: an hour to thirty days after they were written."""

    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]
    anchor: Literal["created_at"] = "created_at"


class CreateBatch(msgspec.Struct, frozen=True, kw_only=True):
    """`completion_window`: hours or days after which the lines that are left are not run any more."""

    input_file_id: str
    endpoint: str
    completion_window: Annotated[str, Meta(pattern="^[1-9][0-9]{0,2}[hd]$")] = "24h"
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None


class BatchErrors(msgspec.Struct, frozen=True):
    data: tuple[BatchError, ...]
    object: Literal["list"] = "list"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Times are Unix seconds."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: BatchStatus
    created_at: int
    expires_at: int
    metadata: dict[str, str]
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: BatchErrors | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: ResponseUsage | None = None
    object: Literal["batch"] = "batch"


class BatchPage(msgspec.Struct, frozen=True):
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class InputLine(msgspec.Struct, frozen=True):
    """A line of the input file: a request whose `body` is for `url`."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=512)]
    method: str
    url: str
    body: msgspec.Raw


class LineResponse(msgspec.Struct, frozen=True):
    status_code: int
    request_id: str
    body: msgspec.Raw


class LineError(msgspec.Struct, frozen=True):
    code: str
    message: str


class OutputLine(msgspec.Struct, frozen=True):
    """A line of the output or error file. `error` is set for a line that was not run, `response` for all others."""

    id: str
    custom_id: str
    response: LineResponse | None = None
    error: LineError | None = None
