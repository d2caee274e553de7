"""Files while they are being received: within a size, off the event loop, and gone when they are not kept."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from server.errors import DiskFull, FileTooLarge

_PIECE = 1 << 20  # bytes written at once


class Incoming:
    """A file being received, under a name of the server's own until it is kept."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size = 0
        self._max_bytes = max_bytes
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._buffer = bytearray()

    def announce(self, size: int) -> None:
        """So many bytes are to come at least. Raises `FileTooLarge` before any of them is written."""
        if size > self._max_bytes:
            raise FileTooLarge(self._max_bytes)

    async def write(self, piece: bytes | bytearray) -> None:
        """Raises `FileTooLarge`, `DiskFull`."""
        self.announce(self.size + len(piece))
        self.size += len(piece)
        self._buffer += piece
        if len(self._buffer) >= _PIECE:
            await asyncio.to_thread(self._flush)

    def finish(self) -> None:
        """Everything is on the disk. Raises `DiskFull`."""
        self._flush()
        with room_on_disk():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """What was not kept is gone."""
        with contextlib.suppress(OSError):  # a full disk, again
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        buffer, self._buffer = self._buffer, bytearray()
        with room_on_disk():
            self._file.write(buffer)
            self._file.flush()


@contextlib.contextmanager
def room_on_disk() -> Iterator[None]:
    """A full disk as `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull from error
