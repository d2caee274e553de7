"""What the library refuses.

LibraryError
├── NoSuchFile, NoSuchStore, NoSuchBatch, NotInStore
├── ReadOnly            it is a watched folder's: its files are changed there
├── StoreExpired
├── FileTooLarge, NoRoom
├── DiskFull
└── EmptyFile
"""


class LibraryError(Exception):
    pass


class NoSuchFile(LibraryError):
    def __init__(self, id: str) -> None:
        super().__init__(f"No such File object: {id}")


class NoSuchStore(LibraryError):
    def __init__(self, id: str) -> None:
        super().__init__(f"Vector store with id [{id}] not found.")


class NoSuchBatch(LibraryError):
    def __init__(self, id: str) -> None:
        super().__init__(f"No such file batch: {id}")


class NotInStore(LibraryError):
    def __init__(self, file_id: str, store_id: str) -> None:
        super().__init__(f"No file {file_id} in vector store {store_id}.")


class ReadOnly(LibraryError):
    def __init__(self, collection: str) -> None:
        super().__init__(
            f"This is the watched folder {collection!r}, which is only read here. Change the files in the folder; the"
            " index follows."
        )


class StoreExpired(LibraryError):
    def __init__(self, id: str) -> None:
        super().__init__(f"The vector store {id} has expired and its files have left it; make another.")


class FileTooLarge(LibraryError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"The file is larger than {limit:,} bytes (files.max_bytes).")


class NoRoom(LibraryError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"All files together would take more than {limit:,} bytes (files.total_bytes); delete some.")


class DiskFull(LibraryError):
    def __init__(self) -> None:
        super().__init__("The server's disk is full.")


class EmptyFile(LibraryError):
    def __init__(self) -> None:
        super().__init__("The file is empty.")
