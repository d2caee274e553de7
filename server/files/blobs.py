"""The interface of what keeps the bytes of uploaded files. `local_blobs.py` keeps them in a folder."""

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from index.uploads import UploadPath


class IncomingFile(Protocol):
    """A file that is being received. It has no id yet, and is deleted unless `Blobs.put` gives it one."""

    @property
    def size(self) -> int:
        """Bytes that have been written."""
        ...

    def check_size(self, num_bytes: int) -> None:
        """Raises `FileTooLarge` for a file of so many bytes, before any of them is written."""
        ...

    async def write(self, piece: bytes | bytearray) -> None:
        """Append bytes. Raises `FileTooLarge`, `StorageFull`."""
        ...


class Blobs(Protocol):
    """Bytes of files by their ids, and links to them that the indexer follows.

    An id may be linked under several paths, one for each way in which the file is chunked. Raises `StorageFull` when
    there is no room.
    """

    @property
    def uploads_folder(self) -> Path:
        """The folder in which the indexer finds the links."""
        ...

    def receive(self, max_bytes: int) -> AbstractAsyncContextManager[IncomingFile]:
        """Begin a file of at most `max_bytes`. What was received is deleted at the end, unless it was put."""
        ...

    async def put(self, incoming: IncomingFile, id: str) -> None:
        """Keep what was received under an id. When this returns, it survives a power failure."""
        ...

    async def open(self, id: str) -> BinaryIO:
        """Return a file for reading, which the caller closes. Raises `StoredFileNotFound`."""
        ...

    async def remove(self, id: str) -> None:
        """Delete a file, if it is there. Its links stay."""
        ...

    async def link(self, id: str, path: UploadPath) -> None:
        """Let the indexer see a file under this path. The whole file appears at once."""
        ...

    async def unlink(self, path: UploadPath) -> None:
        """Hide a file from the indexer, if it is there."""
        ...

    async def reconcile(self, ids: Collection[str], paths: Sequence[UploadPath]) -> None:
        """Delete all files and links but these, and make the links that are missing."""
        ...
