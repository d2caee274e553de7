"""Files that Cloister keeps itself, in a folder of the data folder that the indexer follows like any other.

It is a collection that is searched only where it is named, and only as far as its files are. A path in it is
`CHUNKING/ID/NAME`: how the file is cut, what it is known by, and what a reader is chosen by and people call it. A file
that is cut in two ways lies there twice, and is two documents.
"""

import re
from pathlib import Path
from typing import NamedTuple, Self

UPLOADS = ".uploads"  # no watched folder's name can begin with a dot
WATCHED = "is_active AND name NOT LIKE '.%'"  # SQL for the collections a question is put to without naming them
_AUTO = "auto"
_PATH = re.compile(r"(auto|[0-9]{1,5}-[0-9]{1,5})/(file-[0-9a-f]{24})/([^/]+)")


class Chunking(NamedTuple):
    """Chunks of at most `size` tokens, each beginning with at most `overlap` tokens of the one before."""

    size: int
    overlap: int


class UploadPath(NamedTuple):
    """`chunking` None: as suits the embedder."""

    chunking: Chunking | None
    id: str
    name: str

    def __str__(self) -> str:
        cut = _AUTO if self.chunking is None else f"{self.chunking.size}-{self.chunking.overlap}"
        return f"{cut}/{self.id}/{self.name}"

    @classmethod
    def read(cls, path: str) -> Self | None:
        """None for what is no such path."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        cut, id, name = found.groups()
        return cls(None if cut == _AUTO else Chunking(*map(int, cut.split("-"))), id, name)


def is_managed(collection: str) -> bool:
    """Whether a collection's files are the server's own, see `Collection.is_managed`. Settings refuse such names."""
    return collection.startswith(".")


def uploads_folder(data: Path) -> Path:
    """The collection's, in a data folder."""
    return data.resolve() / "uploads"


def display_path(path: str) -> str:
    """What people call a file of this path below its collection's folder: of an upload, its name alone."""
    upload = UploadPath.read(path)
    return path if upload is None else upload.name
