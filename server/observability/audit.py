"""The audit log: who did what and when, and who was refused.

It has the name of the key, the address, the operation and its status, and the ids of what was changed, which the server
made. No text of questions, answers or documents is in it.
"""

import logging
import threading
from typing import Self

from server.settings.params import AuditLevel
from server.storage.base import AuditSink
from server.storage.records import AuditEntry

_log = logging.getLogger(__name__)

_REFUSED = frozenset({401, 403, 421, 429})  # statuses


class AuditLog:
    """Owns the sink. A context manager.

    It never stands in the way of a request: when an entry cannot be written, the server's log says so once, and the
    entry is lost.
    """

    def __init__(self, sink: AuditSink, level: AuditLevel) -> None:
        self._sink = sink
        self._level = level
        self._lock = threading.Lock()
        self._has_failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()

    def record(self, entry: AuditEntry, *, is_change: bool) -> None:
        """Write an entry if the level wants it: all of them, or changes, also those that failed, and refusals."""
        if self._level == "all" or (self._level == "changes" and (is_change or entry.status in _REFUSED)):
            with self._lock:
                self._write(entry)

    def _write(self, entry: AuditEntry) -> None:
        try:
            self._sink.write(entry)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                _log.error("the audit log cannot be written: %s", error)
            self._has_failed = True
