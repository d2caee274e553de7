"""Exceptions of the server. Each class carries its HTTP status and code; `str` is the message a client reads.

ServerError
├── RequestError             the request is invalid or impossible; names the field at fault
├── AccessDenied             the caller is refused; carries its own status
├── ClientDisconnected
├── NotFound
│   └── UnknownModel, BatchNotFound, ResponseNotFound
├── FilesError               about uploaded files and vector stores
│   ├── StoredFileNotFound, VectorStoreNotFound, FileBatchNotFound, FileNotInVectorStore (NotFound too)
│   ├── EmptyFile, FileTooLarge, FileQuotaExceeded
│   ├── ReadOnlyVectorStore  the store shows a watched folder
│   └── VectorStoreExpired
├── NoBarePrompts            the model continues conversations alone
├── TooManyBatches
├── ResponseNotCancellable
├── SettingsError
└── KeyStoreError
"""

from collections.abc import Sequence


class ServerError(Exception):
    """`param` is the path of the field at fault in the request; `retry_after` is in seconds."""

    status: int = 500
    code: str | None = "internal_error"
    param: str | None = None
    retry_after: int | None = None


class RequestError(ServerError):
    status = 400

    def __init__(self, message: str, param: str | None, code: str = "unsupported_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class AccessDenied(ServerError):
    def __init__(self, status: int, message: str, code: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class ClientDisconnected(ServerError):
    """The client closed its connection; nobody reads the reply."""

    status = 499
    code = "client_closed_request"

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class NotFound(ServerError):
    status = 404
    code = "not_found"
    param: str | None = None


class UnknownModel(NotFound):
    code = "model_not_found"
    param = "model"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"The model {name!r} does not exist; there are: {', '.join(known) or 'none'}.")
        self.name = name
        self.known = known


class NoBarePrompts(ServerError):
    status = 400
    code = "unsupported_value"
    param = "model"

    def __init__(self, name: str) -> None:
        super().__init__(f"The model {name!r} continues conversations only; use POST /v1/chat/completions.")


class FilesError(ServerError):
    status = 400
    code = "invalid_value"
    param: str | None = "file"


class StoredFileNotFound(NotFound, FilesError):
    def __init__(self, id: str) -> None:
        super().__init__(f"No such File object: {id}")


class VectorStoreNotFound(NotFound, FilesError):
    def __init__(self, id: str) -> None:
        super().__init__(f"Vector store with id [{id}] not found.")


class FileBatchNotFound(NotFound, FilesError):
    def __init__(self, id: str) -> None:
        super().__init__(f"No such file batch: {id}")


class FileNotInVectorStore(NotFound, FilesError):
    def __init__(self, file_id: str, store_id: str) -> None:
        super().__init__(f"No file {file_id} in vector store {store_id}.")


class BatchNotFound(NotFound):
    def __init__(self, id: str) -> None:
        super().__init__(f"No such Batch object: {id}")


class ResponseNotFound(NotFound):
    def __init__(self, id: str) -> None:
        super().__init__(f"Response with id '{id}' not found.")
        self.id = id


class EmptyFile(FilesError):
    def __init__(self) -> None:
        super().__init__("The file is empty; upload one with content.")


class FileTooLarge(FilesError):
    status = 413
    code = "file_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The file is larger than {limit:,} bytes (files.max_bytes).")


class FileQuotaExceeded(FilesError):
    status = 413
    code = "file_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"All files together would take more than {limit:,} bytes (files.total_bytes); delete some.")


class ReadOnlyVectorStore(FilesError):
    status = 403
    code = "read_only"
    param = None

    def __init__(self, collection: str) -> None:
        super().__init__(
            f"The vector store shows the watched folder {collection!r} and is read-only. Change the files in the"
            " folder; the index follows."
        )


class VectorStoreExpired(FilesError):
    code = "vector_store_expired"
    param = None

    def __init__(self, id: str) -> None:
        super().__init__(f"The vector store {id} has expired and its files were removed from it; create another.")


class TooManyBatches(ServerError):
    status = 400
    code = "invalid_value"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} batches are unfinished; wait for one, or cancel one.")


class ResponseNotCancellable(ServerError):
    status = 400
    code = "invalid_value"

    def __init__(self, id: str, status: str, *, is_background: bool) -> None:
        reason = f"it is {status}" if is_background else "it was not created with background: true"
        super().__init__(f"The response {id} cannot be cancelled: {reason}.")


class SettingsError(ServerError):
    """`setting` is the dotted path of the setting at fault, "" for the settings file itself."""

    status = 400
    code = "settings_invalid"

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}" if setting else reason)
        self.setting = setting
        self.reason = reason


class KeyStoreError(ServerError):
    """The API keys cannot be read or changed; every request that needs a key is refused."""

    status = 503
    code = "keys_unreadable"
