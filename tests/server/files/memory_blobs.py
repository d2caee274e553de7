"""Bytes of files in memory; they pass the contract suite of blobs."""

import contextlib
import io
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from index.uploads import UploadPath
from server.errors import FileTooLarge, StoredFileNotFound
from server.files.blobs import IncomingFile


class MemoryIncomingFile:
    def __init__(self, max_bytes: int) -> None:
        self.content = b""
        self._max_bytes = max_bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def check_size(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise FileTooLarge(self._max_bytes)

    async def write(self, piece: bytes | bytearray) -> None:
        self.check_size(self.size + len(piece))
        self.content += piece


class MemoryBlobs:
    """Blobs in memory. `links`: the content of every link that an indexer would see, by path."""

    def __init__(self) -> None:
        self.links: dict[str, bytes] = {}
        self._files: dict[str, bytes] = {}

    @property
    def uploads_folder(self) -> Path:
        return Path("/nowhere")

    @contextlib.asynccontextmanager
    async def receive(self, max_bytes: int) -> AsyncIterator[MemoryIncomingFile]:
        yield MemoryIncomingFile(max_bytes)

    async def put(self, incoming: IncomingFile, id: str) -> None:
        assert isinstance(incoming, MemoryIncomingFile)
        self._files[id] = incoming.content

    async def open(self, id: str) -> BinaryIO:
        if id not in self._files:
            raise StoredFileNotFound(id)
        return io.BytesIO(self._files[id])

    async def remove(self, id: str) -> None:
        self._files.pop(id, None)

    async def link(self, id: str, path: UploadPath) -> None:
        self.links[str(path)] = self._files[id]

    async def unlink(self, path: UploadPath) -> None:
        self.links.pop(str(path), None)

    async def reconcile(self, ids: Collection[str], paths: Sequence[UploadPath]) -> None:
        self._files = {id: content for id, content in self._files.items() if id in ids}
        self.links = {str(path): self._files[path.id] for path in paths if path.id in self._files}
