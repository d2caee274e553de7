"""Records of the server's stores. Times are Unix seconds; an `owner` is the id of a principal."""

from typing import Literal, NamedTuple

import msgspec

from server.access.principal import Principal


class ResponseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A response of /v1/responses. The API that answers it owns the JSON.

    `output_ids`: ids of the response's output items, by which they can be found. `pending` is what is needed to make
    the response later, None once it is over.
    """

    id: str
    previous_id: str | None = None
    response: bytes  # JSON
    input_items: bytes  # JSON, without those of the responses before it
    output_ids: tuple[str, ...] = ()
    pending: bytes | None = None  # JSON

    @property
    def is_over(self) -> bool:
        return self.pending is None


BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
FINAL_STATUSES: tuple[BatchStatus, ...] = ("failed", "completed", "expired", "cancelled")


class BatchError(msgspec.Struct, frozen=True):
    """A fault of a batch's input file; lines count from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class RequestCounts(msgspec.Struct, frozen=True):
    total: int = 0
    completed: int = 0
    failed: int = 0


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens that were read and generated; `cached` and `reasoning` are parts of `input` and `output`."""

    input: int
    cached: int
    output: int
    reasoning: int

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            input=self.input + other.input,
            cached=self.cached + other.cached,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
        )


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of /v1/batches, without its lines."""

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
    errors: tuple[BatchError, ...] = ()
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: TokenUsage | None = None

    @property
    def is_over(self) -> bool:
        return self.status in FINAL_STATUSES


class BatchOptions(msgspec.Struct, frozen=True):
    """On whose behalf a batch runs. `base_url`: the address that links in its answers begin with. `keep_s`: seconds
    after which its files expire, None: never."""

    principal: Principal
    base_url: str
    keep_s: int | None = None


class BatchLine(NamedTuple):
    """A request of a batch; `number` is that of its line in the input file, from 1."""

    number: int
    custom_id: str
    body: bytes  # JSON


class LineOutcome(NamedTuple):
    output: bytes  # JSON: the line of the output file or, with `is_error`, of the error file
    is_error: bool


class LineResult(NamedTuple):
    """A line of a batch and its outcome, None while it has none."""

    number: int
    custom_id: str
    outcome: LineOutcome | None


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done in the background. `kind` names its handler. `subject` is the id of what it is done for:
    a subject's jobs are removed together; `part` says which part of it, in the handler's own terms. Jobs of a kind are
    leased by ascending `position`, then in the order they were added; None means behind all that are in the queue."""

    id: str
    kind: str
    subject: str
    part: int = 0
    position: int | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job that `worker` has leased. The fields are those of `NewJob`."""

    id: str
    kind: str
    subject: str
    part: int
    position: int
    worker: str


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An action and its actor. `key` is the name of the actor's key, "" where there are no keys or the request had
    none. `ids`: what was changed, by the names of the path's parameters."""

    at: float
    key: str
    address: str
    operation: str
    status: int
    request: str
    ids: dict[str, str] = {}
