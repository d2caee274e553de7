"""Watched folders as vector stores: their ids, and those of their files. Nothing is kept of them here."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from index.storage.records import DocumentCount, DocumentRecord
from index.uploads import UPLOADS, UploadPath
from server.files.records import Attributes, Counts, Failure, Member, Status

_FILE = re.compile(r"file-0{8}([0-9a-f]{16})")


def folder_store_id(collection: str) -> str:
    """Always the same for a name."""
    return f"vs_{hashlib.sha256(f'folder:{collection}'.encode()).hexdigest()[:24]}"


def folder_file_id(document_id: int) -> str:
    """The same as long as the file is where it is."""
    return f"file-{document_id:024x}"


def document_of(file_id: str) -> int | None:
    """None for a file that was uploaded, or nothing."""
    found = _FILE.fullmatch(file_id)
    number = int(found[1], 16) if found else 0
    return number if 0 < number < 1 << 63 else None


def attributes_of(document: DocumentRecord) -> Attributes:
    """What filters may ask of a watched file. The time is that of its last change, Unix seconds."""
    return {"path": document.path, "modified_at": document.mtime_ns // 1_000_000_000}


def member_of(store_id: str, document: DocumentRecord) -> Member:
    return Member(
        store_id=store_id,
        file_id=folder_file_id(document.id),
        filename=PurePosixPath(document.path).name,
        size=max(document.size, 0),
        created_at=document.mtime_ns // 1_000_000_000,
        status=status_of(document),
        attributes=attributes_of(document),
        failure=failure_of(document),
        document_id=document.id,
    )


def folder_counts(counts: Sequence[DocumentCount]) -> Counts:
    return Counts(
        in_progress=sum(each.num_documents for each in counts if each.state == "pending" and not each.is_searchable),
        completed=sum(each.num_documents for each in counts if each.is_searchable),
        failed=sum(each.num_documents for each in counts if each.state == "failed"),
        size=sum(each.size for each in counts if each.is_searchable),
    )


def status_of(document: DocumentRecord | None) -> Status:
    """What was read and waits to be read again, is still searched as it was."""
    if document is None:
        return Status.IN_PROGRESS
    if document.state == "failed":
        return Status.FAILED
    if document.state == "indexed" or (document.was_indexed and document.error is None):
        return Status.COMPLETED
    return Status.IN_PROGRESS


def failure_of(document: DocumentRecord | None) -> Failure | None:
    if document is None or document.state != "failed":
        return None
    return Failure("invalid_file", f"It cannot be searched: {document.error}.")


def file_id_of(collection: str, path: str, document_id: int) -> str:
    """Of what a passage is from."""
    upload = UploadPath.parse(path) if collection == UPLOADS else None
    return folder_file_id(document_id) if upload is None else upload.id
