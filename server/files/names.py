"""Filenames that are safe on disk, and the paths under which the indexer finds uploaded files."""

import re
import unicodedata
from pathlib import PurePosixPath

from index.reading.readers import is_readable
from index.uploads import UploadPath
from server.storage.file_records import Attachment

_UNSAFE = re.compile(r"[^\w .()+-]+")
_MAX_STEM_BYTES = 120


def safe_filename(filename: str) -> str:
    """Return a filename of letters, digits and a few signs, with the extension of the given one."""
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", filename))
    path = PurePosixPath(name)
    stem, suffix = (path.stem, path.suffix) if path.suffix else (name, "")
    short = stem.strip(" .").encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
    return f"{short or 'file'}{suffix.lower()}"


def is_searchable(filename: str) -> bool:
    """Return whether the indexer has a reader for files of this name."""
    return is_readable(safe_filename(filename))


def upload_path(attachment: Attachment) -> UploadPath:
    """Return the path under which the indexer finds the file, chunked as it was attached."""
    return UploadPath(attachment.chunking, attachment.file.id, safe_filename(attachment.file.filename))
