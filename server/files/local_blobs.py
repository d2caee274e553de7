"""Uploaded files in the data folder: each once, and a hard link to it for each way in which it is chunked.

    files/ID                        a file
    files/.incoming/…               files that are being received
    uploads/CHUNKING/ID/NAME        links, which the indexer follows

Only the letters, digits and a few signs of a client's filename become part of a path, as its last component.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from index.errors import StorageFull
from index.uploads import UploadPath, uploads_folder
from server.errors import FileTooLarge, StoredFileNotFound
from server.files.blobs import IncomingFile

_INCOMING = ".incoming"
_BUFFER_BYTES = 1 << 20


class LocalIncomingFile:
    """An `IncomingFile` at a path of the server's choice."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size = 0
        self._max_bytes = max_bytes
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._buffer = bytearray()

    def check_size(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise FileTooLarge(self._max_bytes)

    async def write(self, piece: bytes | bytearray) -> None:
        self.check_size(self.size + len(piece))
        self.size += len(piece)
        self._buffer += piece
        if len(self._buffer) >= _BUFFER_BYTES:
            await asyncio.to_thread(self._flush)

    def sync(self) -> None:
        """Bring everything to the disk. Raises `StorageFull`."""
        self._flush()
        with _storage_full():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, and delete it if it is still at its path."""
        with contextlib.suppress(OSError):  # the disk is full, again
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        buffer, self._buffer = self._buffer, bytearray()
        with _storage_full():
            self._file.write(buffer)
            self._file.flush()


class LocalBlobs:
    """`Blobs` in two folders of a data folder, which this owns."""

    def __init__(self, data_folder: Path) -> None:
        self._files = data_folder.resolve() / "files"
        self._uploads = uploads_folder(data_folder)
        for folder in (self._files, self._files / _INCOMING, self._uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def uploads_folder(self) -> Path:
        return self._uploads

    @contextlib.asynccontextmanager
    async def receive(self, max_bytes: int) -> AsyncIterator[LocalIncomingFile]:
        with _storage_full():
            incoming = LocalIncomingFile(self._incoming_path(), max_bytes)
        try:
            yield incoming
        finally:
            await asyncio.to_thread(incoming.close)

    async def put(self, incoming: IncomingFile, id: str) -> None:
        assert isinstance(incoming, LocalIncomingFile), "it comes from `receive`"
        await asyncio.to_thread(self._put, incoming, id)

    async def open(self, id: str) -> BinaryIO:
        try:
            return await asyncio.to_thread((self._files / id).open, "rb")
        except OSError:
            raise StoredFileNotFound(id) from None

    async def remove(self, id: str) -> None:
        await asyncio.to_thread((self._files / id).unlink, missing_ok=True)

    async def link(self, id: str, path: UploadPath) -> None:
        await asyncio.to_thread(self._link, id, path)

    async def unlink(self, path: UploadPath) -> None:
        await asyncio.to_thread(self._unlink, path)

    async def reconcile(self, ids: Collection[str], paths: Sequence[UploadPath]) -> None:
        await asyncio.to_thread(self._reconcile, ids, paths)

    def _incoming_path(self) -> Path:
        return self._files / _INCOMING / secrets.token_hex(8)

    def _put(self, incoming: LocalIncomingFile, id: str) -> None:
        incoming.sync()
        with _storage_full():
            incoming.path.rename(self._files / id)
            _sync_folder(self._files)

    def _link(self, id: str, path: UploadPath) -> None:
        target = self._uploads / str(path)
        if target.exists():
            return
        with _storage_full():
            target.parent.parent.mkdir(mode=0o700, exist_ok=True)
            folder = self._incoming_path()  # renamed as a whole, so that the indexer never sees half of a copy
            folder.mkdir(mode=0o700)
            _link_or_copy(self._files / id, folder / path.name)
            folder.replace(target.parent)

    def _unlink(self, path: UploadPath) -> None:
        target = self._uploads / str(path)
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            target.parent.rmdir()

    def _reconcile(self, ids: Collection[str], paths: Sequence[UploadPath]) -> None:
        shutil.rmtree(self._files / _INCOMING, ignore_errors=True)
        (self._files / _INCOMING).mkdir(mode=0o700)
        for file in self._files.iterdir():
            if file.name not in ids and file.name != _INCOMING:
                file.unlink()
        links = {str(path) for path in paths}
        for link in list(self._uploads.glob("*/*/*")):
            if str(link.relative_to(self._uploads)) not in links:
                link.unlink()
        for folder in list(self._uploads.glob("*/*/")):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        for path in paths:
            if (self._files / path.id).exists():
                self._link(path.id, path)


@contextlib.contextmanager
def _storage_full() -> Iterator[None]:
    """Raise `StorageFull` for a full disk or quota."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(str(error)) from error


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links
        shutil.copyfile(source, target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
