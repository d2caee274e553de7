"""Files of a vector store with what the index made of them."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple

import msgspec

from index.params import Chunking
from index.storage.records import DocumentCount, DocumentRecord
from server.files.folders import document_attributes, folder_file_id
from server.storage.file_records import Attachment, Attributes, FileFailure


class FileStatus(StrEnum):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class VectorStoreFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a vector store. `document_id` is the index's, None while it has none."""

    store_id: str
    file_id: str
    filename: str
    size: int  # bytes
    created_at: int  # Unix seconds
    status: FileStatus
    attributes: Attributes
    chunking: Chunking | None = None
    failure: FileFailure | None = None
    document_id: int | None = None


class FileStatusCounts(NamedTuple):
    """The number of files in each status, and the bytes of those that are completed."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    size: int = 0

    @property
    def total(self) -> int:
        return self.in_progress + self.completed + self.failed + self.cancelled


def attached_file(attachment: Attachment, document: DocumentRecord | None) -> VectorStoreFile:
    """Return an attached file. `document` is what the index has of it."""
    if attachment.failure is not None:
        status, failure = FileStatus.FAILED, attachment.failure
    elif attachment.is_cancelled:
        status, failure = FileStatus.CANCELLED, None
    else:
        status, failure = _status(document), _failure(document)
    return VectorStoreFile(
        store_id=attachment.store_id,
        file_id=attachment.file.id,
        filename=attachment.file.filename,
        size=attachment.file.size,
        created_at=attachment.created_at,
        status=status,
        attributes=attachment.attributes,
        chunking=attachment.chunking,
        failure=failure,
        document_id=None if document is None else document.id,
    )


def watched_file(store_id: str, document: DocumentRecord) -> VectorStoreFile:
    """Return a file of a watched folder."""
    return VectorStoreFile(
        store_id=store_id,
        file_id=folder_file_id(document.id),
        filename=PurePosixPath(document.path).name,
        size=max(document.size, 0),
        created_at=document.mtime_ns // 1_000_000_000,
        status=_status(document),
        attributes=document_attributes(document),
        failure=_failure(document),
        document_id=document.id,
    )


def count_files(files: Sequence[VectorStoreFile]) -> FileStatusCounts:
    num_files = Counter(file.status for file in files)
    return FileStatusCounts(
        in_progress=num_files[FileStatus.IN_PROGRESS],
        completed=num_files[FileStatus.COMPLETED],
        failed=num_files[FileStatus.FAILED],
        cancelled=num_files[FileStatus.CANCELLED],
        size=sum(file.size for file in files if file.status == FileStatus.COMPLETED),
    )


def count_documents(counts: Sequence[DocumentCount]) -> FileStatusCounts:
    """Return the counts of a watched folder from those of the index."""
    pending = (count for count in counts if count.state == "pending" and not count.is_searchable)
    return FileStatusCounts(
        in_progress=sum(count.num_documents for count in pending),
        completed=sum(count.num_documents for count in counts if count.is_searchable),
        failed=sum(count.num_documents for count in counts if count.state == "failed"),
        size=sum(count.size for count in counts if count.is_searchable),
    )


def _status(document: DocumentRecord | None) -> FileStatus:
    """Return the status of a file; one that waits to be indexed again is still searched as it was."""
    if document is None:
        return FileStatus.IN_PROGRESS
    if document.state == "failed":
        return FileStatus.FAILED
    if document.state == "indexed" or (document.was_indexed and document.error is None):
        return FileStatus.COMPLETED
    return FileStatus.IN_PROGRESS


def _failure(document: DocumentRecord | None) -> FileFailure | None:
    if document is None or document.state != "failed":
        return None
    return FileFailure("invalid_file", f"It cannot be searched: {document.error}.")
