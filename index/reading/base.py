"""The interface of a reader of a file format, and its registration.

A new format is a module in `index/reading/readers` that provides `FileReader`, and a line in `FORMATS` there.
"""

from typing import NamedTuple, Protocol

from index.types import ParsedDocument


class FileReader(Protocol):
    """Turns the bytes of a file into canonical text and blocks. Modules provide it: `read` is a module's function."""

    def read(self, content: bytes, suffix: str) -> ParsedDocument:
        """Return the text and its blocks, in order and apart. `suffix` is the file's, in lower case, with its dot.

        Opens no file and no connection. Raises `UnreadableDocument` with a reason for a person; any other exception
        is reported as the failure of this file too.
        """


class FileFormat(NamedTuple):
    """A line of the table of formats: the module that reads files with these suffixes.

    Files of a format that `is_plain` may share a process: its reader is Python throughout, and leaves nothing behind
    that could harm the next file. `num_descriptors` is how many file descriptors the reader may have open.
    """

    module: str
    suffixes: str  # with their dots, apart by spaces
    is_plain: bool = False
    num_descriptors: int = 0
