"""Keeps the links that the indexer follows in step with what is attached to vector stores."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from server.files.blobs import Blobs
from server.files.names import upload_path
from server.storage.base import FileRepository
from server.storage.file_records import Attachment

_SWEEP_S = 1.0


class UploadLinks:
    """`repository` is not narrowed to a principal: a file's link stays while any store needs it.

    `revision` counts the changes of what is attached, so that what was derived from it can be cached.
    """

    def __init__(self, repository: FileRepository, blobs: Blobs) -> None:
        self.revision = 0
        self._repository = repository
        self._blobs = blobs
        self._lock = asyncio.Lock()
        self._next_sweep = 0.0  # monotonic seconds

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold off all other changes, and first remove what has expired."""
        async with self._lock:
            await self._sweep()
            yield

    async def sweep(self) -> None:
        """Remove what has expired, at most once a second."""
        if time.monotonic() >= self._next_sweep:
            async with self.exclusive():
                pass

    async def link(self, attachments: Sequence[Attachment]) -> None:
        """Let the indexer see these files, as far as it is to have them."""
        self.revision += 1
        for attachment in attachments:
            if attachment.is_indexed:
                await self._blobs.link(attachment.file.id, upload_path(attachment))

    async def unlink_unused(self, detached: Sequence[Attachment]) -> None:
        """Hide what was detached from the indexer, unless another store still has it chunked in the same way."""
        self.revision += 1
        for file_id in {attachment.file.id for attachment in detached}:
            current = await self._repository.attachments(file_id=file_id)
            used = {upload_path(attachment) for attachment in current if attachment.is_indexed}
            paths = {upload_path(attachment) for attachment in detached if attachment.file.id == file_id}
            for path in paths - used:
                await self._blobs.unlink(path)

    async def remove_file(self, file_id: str) -> None:
        """Remove a file everywhere. Raises `StoredFileNotFound`."""
        await self.unlink_unused(await self._repository.remove_file(file_id))
        await self._blobs.remove(file_id)

    async def _sweep(self) -> None:
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + _SWEEP_S
        now = int(time.time())
        for file_id in await self._repository.expired_file_ids(now):
            await self.remove_file(file_id)
        if detached := await self._repository.empty_expired_stores(now):
            await self.unlink_unused(detached)

    async def reconcile(self) -> None:
        """Make the disk agree with the repository, after a server ended in between."""
        ids = {file.id for file in await self._repository.list_files()}
        attachments = await self._repository.attachments()
        paths = {upload_path(attachment) for attachment in attachments if attachment.is_indexed}
        await self._blobs.reconcile(ids, sorted(paths, key=str))
