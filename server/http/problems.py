"""What an exception is over HTTP: one table from type to status and body, whatever raised it.

Before the first byte of a response an error is a status; after it, an error frame of the same shape.
"""

import errno
import logging
import os
import re
from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from index.errors import (
    CollectionNotFound,
    DataFolderError,
    IndexingError,
    InvalidFilter,
    StorageFull,
    StorageUnavailable,
)
from models.errors import (
    CannotInsert,
    ContextLengthExceeded,
    ModelDoesNotFit,
    ModelError,
    ModelNotFound,
    ModelUnavailable,
    ProcessFailed,
    ProcessUnavailable,
    QueueFull,
    TemplateError,
    UnknownToken,
)
from models.llm.chat.tool_config import UnenforceableTool
from server.api.batches.errors import TooManyBatches, UnknownBatch
from server.api.responses.errors import NoSuchResponse, NotCancellable
from server.files.errors import (
    DiskFull,
    FileTooLarge,
    LibraryError,
    NoRoom,
    NoSuchBatch,
    NoSuchFile,
    NoSuchStore,
    NotInStore,
    ReadOnly,
    StoreExpired,
)
from server.http.error_body import ErrorBody, ErrorDetail
from server.settings.settings import SettingsError

_log = logging.getLogger(__name__)


class RequestError(Exception):
    """A request that is understood and cannot be done; `param` is the path of the field that asks for it."""

    def __init__(self, message: str, param: str | None, code: str = "unsupported_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class UnknownModel(Exception):
    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name)
        self.name = name
        self.known = known


class NotFound(Exception):
    """`what` names the thing, for the message."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class AccessDenied(Exception):
    """Whoever asks may not: `status` says why."""

    def __init__(self, status: int, message: str, code: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.retry_after = retry_after


class ClientGone(Exception):
    """The client closed its connection; nobody reads the answer."""


class Problem(msgspec.Struct, frozen=True):
    """An error as it leaves: status, body, and seconds after which trying again makes sense."""

    status: int
    detail: ErrorDetail
    retry_after: int | None = None

    @property
    def body(self) -> ErrorBody:
        return ErrorBody(self.detail)


def problem_of(error: BaseException) -> Problem:
    """The table."""
    match error:
        case ContextLengthExceeded(n_prompt=n_prompt, n_ctx=n_ctx):
            message = (  # worded so that every client known to look for it finds its phrase
                f"This model's maximum context length is {n_ctx} tokens. However, your messages resulted in {n_prompt}"
                " tokens. Please reduce the length of the messages. (context_length_exceeded)"
            )
            detail = ErrorDetail(
                message, "invalid_request_error", "messages", "context_length_exceeded", n_prompt, n_ctx
            )
            return Problem(400, detail)
        case SettingsError():
            return _problem(400, f"The settings are not right, so all stays as it is: {error}", "settings_invalid")
        case RequestError(message=message, param=param, code=code):
            return _problem(400, message, code, param)
        case TemplateError(reason=reason):
            return _problem(
                400, f"The model's chat template refused these messages: {reason}", "invalid_value", "messages"
            )
        case UnenforceableTool(index=index, reason=reason, path=path):
            where = f"tools[{index}].function.parameters{path.removeprefix('$')}"
            return _problem(400, f"This tool's schema cannot be enforced: {reason}.", "invalid_value", where)
        case UnknownToken(token=token, size=size):
            return _problem(400, f"There is no token {token}; there are 0 to {size - 1}.", "invalid_value", "prompt")
        case CannotInsert(name=name):
            message = (
                f"The model {name!r} has no fill-in-the-middle tokens; name one that has, GET /v1/models lists them."
            )
            return _problem(400, message, "unsupported_value", "suffix")
        case CollectionNotFound(name=name, known=known):
            return _problem(
                404, f"There is no collection {name!r}; there are: {_listed(known)}.", "collection_not_found"
            )
        case InvalidFilter(pattern=pattern):
            return _problem(
                400, f"The pattern {pattern!r} of the filter means nothing.", "invalid_value", "filters.paths"
            )
        case UnknownModel(name=name, known=known):
            message = f"The model {name!r} does not exist; there are: {_listed(known)}."
            return _problem(404, message, "model_not_found", "model")
        case ModelNotFound(name=name):
            return _problem(404, f"The model {name!r} does not exist.", "model_not_found", "model")
        case NotFound(what=what):
            return _problem(404, f"There is no {what}.", "not_found")
        case AccessDenied(status=status, message=message, code=code, retry_after=retry_after):
            return _problem(status, message, code, retry_after=retry_after)
        case NoSuchFile() | NoSuchStore() | NoSuchBatch() | NotInStore():
            return _problem(404, str(error), "not_found")
        case ReadOnly():
            return _problem(403, str(error), "read_only")
        case FileTooLarge() | NoRoom():
            return _problem(413, str(error), "file_too_large", "file")
        case DiskFull():
            return _problem(507, str(error), "disk_full")
        case StorageFull() | OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return _problem(507, "The server's disk is full; nothing of this was kept. Make room there.", "disk_full")
        case StorageUnavailable() | OSError(errno=errno.EIO | errno.EROFS | errno.EMFILE | errno.ENFILE):
            _log.error("the data folder fails: %s", _kind_of(error))
            message = "The server cannot read or write its files just now; its log says why. Try again."
            return _problem(503, message, "storage_failed", retry_after=5)
        case StoreExpired():
            return _problem(400, str(error), "vector_store_expired")
        case NoSuchResponse() | UnknownBatch():
            return _problem(404, str(error), "not_found")
        case NotCancellable() | TooManyBatches():
            return _problem(400, str(error), "invalid_value")
        case LibraryError():
            return _problem(400, str(error), "invalid_value", "file")
        case ClientGone():
            return _problem(499, "The client closed the connection.", "client_closed_request")
        case QueueFull(num_waiting=num_waiting, retry_after=retry_after):
            message = f"{num_waiting} requests are waiting already; try again in {retry_after} s."
            return _problem(429, message, "rate_limit_exceeded", retry_after=retry_after)
        case ModelUnavailable(name=name, reason=reason):
            message = f"The model {name!r} is not available: {reason}. Put that right and start the server again."
            return _problem(503, message, "model_unavailable", "model")
        case ModelDoesNotFit(retry_after=retry_after):
            return _problem(503, f"{error}.", "model_does_not_fit", "model", retry_after=retry_after)
        case ProcessUnavailable(name=name, reason=reason, retry_after=retry_after):
            message = f"The {name} is not ready: {reason}. Try again in {retry_after} s."
            return _problem(503, message, "model_loading", retry_after=retry_after)
        case ProcessFailed(name=name, reason=reason):
            return _problem(503, f"The {name} failed: {reason}. Try again.", "process_failed", retry_after=1)
        case DataFolderError():
            return _problem(
                503, "The index cannot be read; the server's log says why.", "index_unavailable", retry_after=5
            )
        case ValidationException(extra=list(extra)) if extra:
            message = extra[0].get("message", error.detail)
            return _problem(400, message, "invalid_value", _field(message, extra[0].get("key")))
        case RecursionError():  # msgspec's answer to JSON nested a thousand deep
            return _problem(400, "The body is nested too deeply.", "invalid_value")
        case NotFoundException():
            message = "There is no such endpoint here; GET /v1/openapi.json lists those there are."
            return _problem(404, message, "unsupported_endpoint")
        case MethodNotAllowedException(headers=headers):
            allowed = (headers or {}).get("allow", "none")
            return _problem(405, f"This endpoint takes other methods: {allowed}.", "method_not_allowed")
        case HTTPException(status_code=status, detail=message):
            return _problem(status, message, _HTTP_CODES.get(status))
        case _:
            _log.error(
                "unexpected %s", type(error).__name__, exc_info=error if _log.isEnabledFor(logging.DEBUG) else None
            )
            return _problem(500, "Something unexpected went wrong; the server's log names it.", "internal_error")


def _kind_of(error: BaseException) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__


_HTTP_CODES = {413: "request_too_large", 415: "unsupported_media_type"}


def _problem(
    status: int, message: str, code: str | None, param: str | None = None, retry_after: int | None = None
) -> Problem:
    kind = "rate_limit_exceeded" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    return Problem(status, ErrorDetail(message, kind, param, code), retry_after)


def _field(message: str, key: str | None) -> str | None:
    """The path of the field at fault; Litestar calls the body itself "data"."""
    missing = _MISSING.search(message)
    parents = [] if key in (None, "data") else [key]
    return ".".join(filter(None, [*parents, missing and missing[1]])) or None


_MISSING = re.compile(r"missing required field `([^`]+)`")


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _respond(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    problem = problem_of(error)
    return Response(
        problem.body, status_code=problem.status, media_type=MediaType.JSON, headers=headers_of(error, problem)
    )


def headers_of(error: Exception, problem: Problem) -> dict[str, str]:
    """Of an error's reply, in every dialect. Clients try a 5xx again by themselves unless they are told not to."""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    elif problem.status >= 500:
        headers["x-should-retry"] = "false"
    return headers


# Litestar looks handlers up by the exception's classes, most specific first; these roots cover everything.
HANDLERS: dict[int | type[Exception], Any] = {
    ModelError: _respond,
    IndexingError: _respond,
    HTTPException: _respond,
    Exception: _respond,
}
