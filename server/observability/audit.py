"""The audit log of requests: name of the key, client address, operation, status, and ids of changed objects.

The ids are the server's own. The log contains no text of questions, answers or documents.
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
    """Writes entries to the sink, which it owns. A context manager.

    An entry that cannot be written is lost, which the server's log reports once; the request goes on.
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
        """Write an entry if the level includes it. `changes` includes failed changes and refused requests."""
        if self._level == "all" or (self._level == "changes" and (is_change or entry.status in _REFUSED)):
            with self._lock:
                self._write(entry)

    def _write(self, entry: AuditEntry) -> None:
        try:
            self._sink.write(entry)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                _log.error("the audit log cannot be written, entries are lost: %s", error)
            self._has_failed = True
