"""Records of uploaded files and vector stores. Times are Unix seconds."""

import secrets

import msgspec

from index.params import Chunking

Attribute = str | bool | int | float
Attributes = dict[str, Attribute]

_SECONDS_PER_DAY = 86_400


def new_id(kind: str, separator: str = "-") -> str:
    """Return `kind` and 24 random hexadecimal digits. The first is no zero, unlike in the id of a watched file."""
    return f"{kind}{separator}{secrets.choice('123456789abcdef')}{secrets.token_hex(12)[1:]}"


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded file. `owner` is the principal that uploaded it, where that sees some collections only; "" for files
    that everybody who sees all collections may see."""

    id: str
    size: int  # bytes
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None = None
    owner: str = ""


class VectorStoreRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A vector store. Its files leave it after `expires_after_days` without use; `owner` as of a file. `collection` is
    set for a watched folder that is shown as a store."""

    id: str
    name: str
    created_at: int
    last_active_at: int
    description: str | None = None
    expires_after_days: int | None = None
    metadata: dict[str, str] = {}
    owner: str = ""
    collection: str | None = None

    @property
    def expires_at(self) -> int | None:
        if self.expires_after_days is None:
            return None
        return self.last_active_at + self.expires_after_days * _SECONDS_PER_DAY

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class FileFailure(msgspec.Struct, frozen=True):
    """Why a file cannot be searched. `code`: `unsupported_file`, `invalid_file` or `server_error`."""

    code: str
    message: str


class FileToAttach(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be attached to a vector store. `chunking` None: as suits the embedding model. A file with a `failure`
    is attached without being indexed."""

    file_id: str
    attributes: Attributes = {}
    chunking: Chunking | None = None
    failure: FileFailure | None = None


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a vector store, as it was attached. Of the index's work on it nothing is said here."""

    store_id: str
    file: StoredFile
    created_at: int
    attributes: Attributes
    chunking: Chunking | None
    is_cancelled: bool
    failure: FileFailure | None

    @property
    def is_indexed(self) -> bool:
        """True while the index is to have the file, for this store."""
        return not self.is_cancelled and self.failure is None


class FileBatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Files that were attached to a vector store together."""

    id: str
    store_id: str
    created_at: int
    cancelled_at: int | None = None
