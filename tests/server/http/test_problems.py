"""The disk that is full or fails, over HTTP."""

import errno

import pytest

from index.errors import StorageFull, StorageUnavailable
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
def test_a_disk_in_trouble_is_told_without_paths(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.detail.code) == (status, code)
    assert "secret" not in problem.detail.message
    assert (problem.retry_after is not None) == (status == 503)
