"""Turn any exception into the `Problem` that a client reads: one table from class to problem, looked up by MRO.

Before the first byte of a response an error is a status; after it, an error frame of the same shape.
"""

import errno
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

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
    StorageDamaged,
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
    UnenforceableTool,
    UnknownToken,
)
from server.errors import KeyStoreError, ServerError, SettingsError
from server.http.error_body import ErrorBody, ErrorDetail

_log = logging.getLogger(__name__)

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK_FAILED: Final = frozenset({errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
_HTTP_CODES: Final = {413: "request_too_large", 415: "unsupported_media_type"}
_MISSING_FIELD: Final = re.compile(r"missing required field `([^`]+)`")


class Problem(msgspec.Struct, frozen=True):
    """An error as a client reads it. `retry_after` is in seconds."""

    status: int
    detail: ErrorDetail
    retry_after: int | None = None

    @property
    def body(self) -> ErrorBody:
        return ErrorBody(self.detail)


def problem_of(error: BaseException) -> Problem:
    """Return the problem for the nearest class of the error that the table has; the last is `BaseException`."""
    return next(_TABLE[each](error) for each in type(error).__mro__ if each in _TABLE)


def headers_of(error: Exception, problem: Problem) -> dict[str, str]:
    """Return the headers of an error's reply, in every API. Clients retry a 5xx unless a header forbids it."""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    elif problem.status >= 500:
        headers["x-should-retry"] = "false"
    return headers


def _respond(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    problem = problem_of(error)
    return Response(
        problem.body, status_code=problem.status, media_type=MediaType.JSON, headers=headers_of(error, problem)
    )


# Litestar looks handlers up by the exception's classes, most specific first; these roots cover everything.
HANDLERS: dict[int | type[Exception], Any] = dict.fromkeys(
    (ModelError, IndexingError, HTTPException, Exception), _respond
)


def _problem(
    status: int, message: str, code: str | None, param: str | None = None, retry_after: int | None = None
) -> Problem:
    kind = "rate_limit_exceeded" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    return Problem(status, ErrorDetail(message, kind, param, code), retry_after)


# Errors of the server


def _server_error(error: ServerError) -> Problem:
    return _problem(error.status, str(error), error.code, error.param, error.retry_after)


def _settings_error(error: SettingsError) -> Problem:
    return _problem(error.status, f"The settings are invalid, so nothing was changed: {error}", error.code)


def _key_store_error(error: KeyStoreError) -> Problem:
    _log.error("the API keys cannot be read: %s", error)
    return _problem(error.status, "The API keys cannot be read; the server's log says why.", error.code)


# Errors of models


def _context_length(error: ContextLengthExceeded) -> Problem:
    message = (  # contains the phrases that clients are known to search for
        f"This model's maximum context length is {error.n_ctx} tokens. However, your messages resulted in"
        f" {error.num_prompt} tokens. Please reduce the length of the messages. (context_length_exceeded)"
    )
    kind, code = "invalid_request_error", "context_length_exceeded"
    return Problem(400, ErrorDetail(message, kind, "messages", code, error.num_prompt, error.n_ctx))


def _template(error: TemplateError) -> Problem:
    message = f"The model's chat template refused these messages: {error.reason}"
    return _problem(400, message, "invalid_value", "messages")


def _unenforceable_tool(error: UnenforceableTool) -> Problem:
    where = f"tools[{error.index}].function.parameters{error.path.removeprefix('$')}"
    return _problem(400, f"This tool's schema cannot be enforced: {error.reason}.", "invalid_value", where)


def _unknown_token(error: UnknownToken) -> Problem:
    message = f"There is no token {error.token}; tokens are 0 to {error.size - 1}."
    return _problem(400, message, "invalid_value", "prompt")


def _cannot_insert(error: CannotInsert) -> Problem:
    message = f"The model {error.name!r} has no fill-in-the-middle tokens; use one that has; GET /v1/models lists all."
    return _problem(400, message, "unsupported_value", "suffix")


def _model_not_found(error: ModelNotFound) -> Problem:
    return _problem(404, f"The model {error.name!r} does not exist.", "model_not_found", "model")


def _queue_full(error: QueueFull) -> Problem:
    message = f"{error.num_waiting} requests are queued already; try again in {error.retry_after} s."
    return _problem(429, message, "rate_limit_exceeded", retry_after=error.retry_after)


def _model_unavailable(error: ModelUnavailable) -> Problem:
    message = f"The model {error.name!r} is not available: {error.reason}. Correct that and restart the server."
    return _problem(503, message, "model_unavailable", "model")


def _model_does_not_fit(error: ModelDoesNotFit) -> Problem:
    return _problem(503, f"{error}.", "model_does_not_fit", "model", retry_after=error.retry_after)


def _process_unavailable(error: ProcessUnavailable) -> Problem:
    message = f"The {error.name} is not ready: {error.reason}. Try again in {error.retry_after} s."
    return _problem(503, message, "model_loading", retry_after=error.retry_after)


def _process_failed(error: ProcessFailed) -> Problem:
    return _problem(503, f"The {error.name} failed: {error.reason}. Try again.", "process_failed", retry_after=1)


# Errors of the index and of storage


def _collection_not_found(error: CollectionNotFound) -> Problem:
    message = f"There is no collection {error.name!r}; there are: {', '.join(error.known) or 'none'}."
    return _problem(404, message, "collection_not_found")


def _invalid_filter(error: InvalidFilter) -> Problem:
    message = f"The pattern {error.pattern!r} of the filter is invalid; use one like *.md or reports/**."
    return _problem(400, message, "invalid_value", "filters.paths")


def _data_folder(_: DataFolderError) -> Problem:
    message = "The index cannot be read; the server's log says why."
    return _problem(503, message, "index_unavailable", retry_after=5)


def _storage_damaged(error: StorageDamaged) -> Problem:
    _log.error("a database of the data folder is damaged (%s); `cloister doctor` checks it", type(error).__name__)
    message = "A database of the server is damaged; the server's log says what to do."
    return _problem(503, message, "index_unavailable", retry_after=5)


def _disk_full(_: Exception) -> Problem:
    return _problem(507, "The server's disk is full; nothing was stored. Free some space there.", "disk_full")


def _storage_failed(error: Exception) -> Problem:
    number = error.errno if isinstance(error, OSError) else None
    _log.error("the data folder cannot be read or written: %s", os.strerror(number) if number else type(error).__name__)
    message = "The server cannot read or write its files at the moment; its log says why. Try again."
    return _problem(503, message, "storage_failed", retry_after=5)


def _os_error(error: OSError) -> Problem:
    if error.errno in _DISK_FULL:
        return _disk_full(error)
    return _storage_failed(error) if error.errno in _DISK_FAILED else _unexpected_error(error)


# Errors of Litestar and msgspec, and all others


def _validation(error: ValidationException) -> Problem:
    if not isinstance(error.extra, list) or not error.extra:
        return _http(error)
    message = error.extra[0].get("message", error.detail)
    return _problem(400, message, "invalid_value", _field(message, error.extra[0].get("key")))


def _field(message: str, key: str | None) -> str | None:
    """Return the path of the field at fault; Litestar calls the body itself "data"."""
    missing = _MISSING_FIELD.search(message)
    parents = [] if key in (None, "data") else [key]
    return ".".join(filter(None, [*parents, missing and missing[1]])) or None


def _nesting(_: RecursionError) -> Problem:
    """Return the problem for msgspec's error about JSON that is nested a thousand levels deep."""
    return _problem(400, "The body is nested too deeply.", "invalid_value")


def _no_route(_: NotFoundException) -> Problem:
    message = "There is no such endpoint; GET /v1/openapi.json lists all endpoints."
    return _problem(404, message, "unsupported_endpoint")


def _no_method(error: MethodNotAllowedException) -> Problem:
    allowed = (error.headers or {}).get("allow", "none")
    return _problem(405, f"This endpoint does not support the method; use one of: {allowed}.", "method_not_allowed")


def _http(error: HTTPException) -> Problem:
    return _problem(error.status_code, error.detail, _HTTP_CODES.get(error.status_code))


def _unexpected_error(error: BaseException) -> Problem:
    details = error if _log.isEnabledFor(logging.DEBUG) else None  # a traceback may contain text of documents
    _log.error("unexpected %s", type(error).__name__, exc_info=details)
    return _problem(500, "An unexpected error occurred; the server's log names it.", "internal_error")


_TABLE: Final[Mapping[type, Callable[[Any], Problem]]] = {
    ServerError: _server_error,
    SettingsError: _settings_error,
    KeyStoreError: _key_store_error,
    ContextLengthExceeded: _context_length,
    TemplateError: _template,
    UnenforceableTool: _unenforceable_tool,
    UnknownToken: _unknown_token,
    CannotInsert: _cannot_insert,
    ModelNotFound: _model_not_found,
    QueueFull: _queue_full,
    ModelUnavailable: _model_unavailable,
    ModelDoesNotFit: _model_does_not_fit,
    ProcessUnavailable: _process_unavailable,
    ProcessFailed: _process_failed,
    CollectionNotFound: _collection_not_found,
    InvalidFilter: _invalid_filter,
    DataFolderError: _data_folder,
    StorageDamaged: _storage_damaged,
    StorageFull: _disk_full,
    StorageUnavailable: _storage_failed,
    OSError: _os_error,
    ValidationException: _validation,
    RecursionError: _nesting,
    NotFoundException: _no_route,
    MethodNotAllowedException: _no_method,
    HTTPException: _http,
    BaseException: _unexpected_error,
}
