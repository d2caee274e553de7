"""The status, code, message and field of every error as clients receive it."""

import errno

import pytest

from index.errors import StorageDamaged, StorageFull, StorageUnavailable
from models.errors import GrammarError, UnenforceableTool
from server.errors import (
    AccessDenied,
    ClientDisconnected,
    EmptyFile,
    FileTooLarge,
    KeyStoreError,
    ReadOnlyVectorStore,
    RequestError,
    StoredFileNotFound,
    TooManyBatches,
    UnknownModel,
    VectorStoreExpired,
)
from server.http.problems import problem_of


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StorageFull("/secret: disk is full"), 507, "disk_full"),
        (OSError(errno.ENOSPC, "No space left on device", "/secret"), 507, "disk_full"),
        (OSError(errno.EDQUOT, "Quota exceeded"), 507, "disk_full"),
        (StorageUnavailable("/secret: disk I/O error"), 503, "storage_failed"),
        (OSError(errno.EMFILE, "Too many open files"), 503, "storage_failed"),
        (OSError(errno.ENOENT, "No such file", "/secret"), 500, "internal_error"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), 500, "internal_error"),
    ],
)
def test_a_full_or_failing_disk_is_reported_without_paths(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.detail.code) == (status, code)
    assert "secret" not in problem.detail.message
    assert (problem.retry_after is not None) == (status == 503)


def test_a_damaged_database_is_reported_and_logged_without_its_path(caplog: pytest.LogCaptureFixture) -> None:
    problem = problem_of(StorageDamaged("/secret: database disk image is malformed"))
    assert (problem.status, problem.detail.code, problem.retry_after) == (503, "index_unavailable", 5)
    assert "StorageDamaged" in caplog.text
    assert "secret" not in problem.detail.message + caplog.text


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (RequestError("No.", "messages[0]"), 400, "unsupported_value", "messages[0]"),
        (AccessDenied(401, "A key is needed.", "invalid_api_key"), 401, "invalid_api_key", None),
        (UnknownModel("x", ["a"]), 404, "model_not_found", "model"),
        (StoredFileNotFound("file-x"), 404, "not_found", None),
        (EmptyFile(), 400, "invalid_value", "file"),
        (FileTooLarge(10), 413, "file_too_large", "file"),
        (ReadOnlyVectorStore("docs"), 403, "read_only", None),
        (VectorStoreExpired("vs_x"), 400, "vector_store_expired", None),
        (TooManyBatches(3), 400, "invalid_value", None),
        (ClientDisconnected(), 499, "client_closed_request", None),
        (UnenforceableTool(2, GrammarError("No.", "$.a")), 400, "invalid_value", "tools[2].function.parameters.a"),
    ],
)
def test_an_error_has_its_status_code_and_field(error: Exception, status: int, code: str, param: str | None) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.detail.code, problem.detail.param) == (status, code, param)


def test_a_damaged_key_file_is_reported_without_its_path(caplog: pytest.LogCaptureFixture) -> None:
    problem = problem_of(KeyStoreError("/secret/keys.json: damaged"))
    assert (problem.status, problem.detail.code) == (503, "keys_unreadable")
    assert "secret" not in problem.detail.message
    assert "/secret/keys.json: damaged" in caplog.text


def test_an_unknown_exception_is_reported_without_its_message() -> None:
    assert "secret" not in problem_of(ValueError("secret")).detail.message
