"""Audit entries in files of the data folder, one line of JSON each. The oldest files are deleted."""

import os
from pathlib import Path

import msgspec

from server.storage.records import AuditEntry

_FILE = "audit.jsonl"
_MAX_FILE_BYTES = 5_000_000
_MAX_FILES = 10


class AuditFolder:
    """An `AuditSink` that owns the folder `audit` of a data folder. It is opened at the first entry."""

    def __init__(self, data_folder: Path) -> None:
        self._folder = data_folder / "audit"
        self._descriptor: int | None = None
        self._num_bytes = 0

    def write(self, entry: AuditEntry) -> None:
        line = msgspec.json.encode(entry) + b"\n"
        if self._descriptor is None:
            self._open()
        elif self._num_bytes + len(line) > _MAX_FILE_BYTES:
            self._rotate()
        assert self._descriptor is not None
        self._num_bytes += os.write(self._descriptor, line)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._descriptor = os.open(self._path(0), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._num_bytes = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(_MAX_FILES - 1, 0, -1):
            newer = self._path(number - 1)
            if newer.exists():
                newer.replace(self._path(number))
        self._open()

    def _path(self, number: int) -> Path:
        return self._folder / (f"{_FILE}.{number}" if number else _FILE)
