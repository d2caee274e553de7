"""From a file's bytes to canonical text and blocks. One module a format family; the suffix chooses."""

from collections.abc import Callable
from pathlib import PurePosixPath

from index.readers.markdown import read_markdown
from index.readers.text import decode, read_plain
from index.types import Parsed

_READERS: dict[str, Callable[[str], Parsed]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".mdown": read_markdown,
    ".txt": read_plain,
    ".text": read_plain,
    ".rst": read_plain,
}


def is_readable(path: str) -> bool:
    """Whether there is a reader for files of this name."""
    return PurePosixPath(path).suffix.lower() in _READERS


def read(path: str, content: bytes) -> Parsed:
    """Raises `UnreadableDocument` with a reason for a person."""
    return _READERS[PurePosixPath(path).suffix.lower()](decode(content))
