"""Who did what and when, and who was refused: one line of JSON for each, in `audit/` of the data folder.

Nothing of what was asked, answered or read is in it: the key's name, the address, the operation and its status, and of
what was changed the id, which the server made. Files are kept up to a size and a number, the oldest go.
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from server.settings.params import AuditLevel

_log = logging.getLogger(__name__)

_FILE = "audit.jsonl"
_MAX_BYTES = 5_000_000  # of a file
_MAX_FILES = 10
_REFUSED = frozenset({401, 403, 421, 429})


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """`at`: Unix seconds. `key`: its name; "" where there are no keys, or it was none. `ids` by what they are of."""

    at: float
    key: str
    address: str
    operation: str
    status: int
    request: str
    ids: dict[str, str] = {}


class AuditLog:
    """Owns the folder. A context manager. It never stands in the way of a request: should the disk be full, the log
    says so once, and what could not be noted is lost."""

    def __init__(self, data: Path, level: AuditLevel) -> None:
        self._folder = data / "audit"
        self._level = level
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._size = 0
        self._has_failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def note(self, entry: Entry, *, is_change: bool) -> None:
        """As far as the level wants it; a change that failed is one too."""
        if self._level == "all" or (self._level == "changes" and (is_change or entry.status in _REFUSED)):
            line = msgspec.json.encode(entry) + b"\n"
            with self._lock:
                self._try(lambda: self._write(line))

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            self._open()
        elif self._size + len(line) > _MAX_BYTES:
            self._close()
            for number in range(_MAX_FILES - 1, 0, -1):
                older = self._path(number - 1)
                if older.exists():
                    older.replace(self._path(number))
            self._open()
        assert self._descriptor is not None
        self._size += os.write(self._descriptor, line)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._descriptor = os.open(self._path(0), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _path(self, number: int) -> Path:
        return self._folder / (f"{_FILE}.{number}" if number else _FILE)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                _log.error("the audit log cannot be written: %s", error)
            self._has_failed = True
