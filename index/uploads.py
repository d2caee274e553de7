"""The collection of uploaded files, and the paths in it.

The server keeps uploaded files in a folder of the data folder, which the indexer follows like any other. A path in it
is `CHUNKING/ID/NAME`: how the file is cut, the id of the file, and the name that chooses a reader and that people see.
A file that is cut in two ways lies there twice, and is two documents. `UploadPath` alone writes and reads such paths.
"""

import re
from pathlib import Path
from typing import NamedTuple, Self

from index.params import Chunking

UPLOADS = ".uploads"  # the name of the collection, which is managed: see `index.types.is_managed`
_AUTO = "auto"
_PATH = re.compile(r"(auto|[0-9]{1,5}-[0-9]{1,5})/(file-[0-9a-f]{24})/([^/]+)")


class UploadPath(NamedTuple):
    """The path of an uploaded file. `chunking` None cuts it as suits the embedder."""

    chunking: Chunking | None
    id: str
    name: str

    def __str__(self) -> str:
        chunking = _AUTO if self.chunking is None else f"{self.chunking.size}-{self.chunking.overlap}"
        return f"{chunking}/{self.id}/{self.name}"

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Return the parts of a path, or None for another path."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        chunking, id, name = match.groups()
        if chunking == _AUTO:
            return cls(None, id, name)
        size, _, overlap = chunking.partition("-")
        return cls(Chunking(int(size), int(overlap)), id, name)


def uploads_folder(data: Path) -> Path:
    """Return the folder of the uploaded files in a data folder."""
    return data.resolve() / "uploads"


def display_path(path: str) -> str:
    """Return the path that people see: a path in a collection as it is, an upload's as its file name."""
    upload = UploadPath.parse(path)
    return path if upload is None else upload.name
