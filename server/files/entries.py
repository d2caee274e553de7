"""A file in a vector store: what was asked for when it was put there, and what became of it."""

from collections.abc import Mapping
from typing import NamedTuple

from index.params import Chunking
from index.storage.records import DocumentRecord
from index.uploads import UploadPath
from server.files.blobs import safe_filename
from server.files.folders import failure_of, status_of
from server.files.records import Attributes, Failure, Kept, Member, Status


class Entry(NamedTuple):
    """A file in a store, as it was put there."""

    store_id: str
    file: Kept
    created_at: int
    attributes: Attributes
    chunking: Chunking | None
    is_cancelled: bool
    failure: Failure | None

    @property
    def is_live(self) -> bool:
        """Whether the index is to have it."""
        return not self.is_cancelled and self.failure is None

    @property
    def place(self) -> UploadPath:
        """Where the indexer finds it, if it is live."""
        return UploadPath(self.chunking, self.file.id, safe_filename(self.file.filename))

    def as_member(self, documents: Mapping[str, DocumentRecord]) -> Member:
        """With what the index says. `documents`: by their places."""
        document = documents.get(str(self.place))
        if self.failure is not None:
            status, failure = Status.FAILED, self.failure
        elif self.is_cancelled:
            status, failure = Status.CANCELLED, None
        else:
            status, failure = status_of(document), failure_of(document)
        return Member(
            store_id=self.store_id,
            file_id=self.file.id,
            filename=self.file.filename,
            size=self.file.size,
            created_at=self.created_at,
            status=status,
            attributes=self.attributes,
            chunking=self.chunking,
            failure=failure,
            document_id=None if document is None else document.id,
        )
