"""The files of a watched folder, as the index sees them."""

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from index.documents import FileStat
from index.errors import RootUnavailable, UnreadableDocument
from index.readers import is_readable

_log = logging.getLogger(__name__)

# Names editors and copying programs use while they write; what they leave behind is renamed when it is whole.
_TEMPORARY_SUFFIXES = ("~", ".tmp", ".swp", ".swx", ".part", ".crdownload")


class Listing(NamedTuple):
    """Wanted files by path, with /, and the folders that could not be listed: what lies below them is not known."""

    files: list[tuple[str, FileStat]]
    unlisted: list[str]


def is_wanted(path: str) -> bool:
    """Whether a file of this relative path is indexed: readable by its suffix, not hidden, not a temporary file."""
    parts = PurePosixPath(path).parts
    return (
        not any(part.startswith(".") for part in parts)
        and not path.lower().endswith(_TEMPORARY_SUFFIXES)
        and is_readable(path)
    )


def is_nameable(path: str) -> bool:
    """Whether a path is Unicode. One that is not can be neither stored nor shown."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def list_files(root: Path, below: str = "") -> Listing:
    """Wanted files under `root/below`. Symbolic links are not followed.

    Raises `RootUnavailable` when `root` itself cannot be listed.
    """
    try:
        os.scandir(root).close()
    except OSError as error:
        raise RootUnavailable(root, error.strerror or str(error)) from error
    listing = Listing([], [])
    pending = [] if below and _passes_link(root, f"{below}/") else [below]
    while pending:  # one open folder at a time, however many there are
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                pending += _sort_out(folder, entries, listing)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            _log.warning("the folder %s cannot be listed: %s", root / folder, error.strerror)
            listing.unlisted.append(folder)
    return listing


def _sort_out(folder: str, entries: "Iterable[os.DirEntry[str]]", listing: Listing) -> list[str]:
    """Adds the folder's wanted files to the listing; the folders in it."""
    folders = []
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if not is_nameable(path):
            _log.warning("passed over, its name is not UTF-8: %s", ascii(path))
        elif entry.is_dir(follow_symlinks=False):
            folders.append(path)
        elif is_wanted(path) and (found := _stat_entry(entry)):
            listing.files.append((path, found))
    return folders


def _stat_entry(entry: "os.DirEntry[str]") -> FileStat | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None  # gone since it was listed
    return FileStat(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def stat_file(root: Path, path: str) -> FileStat | None:
    """None when there is no regular file of that path (any more), or only by way of a symbolic link."""
    if _passes_link(root, path):
        return None
    try:
        status = (root / path).lstat()
    except (OSError, ValueError):
        return None
    return FileStat(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _passes_link(root: Path, path: str) -> bool:
    """Whether a folder on the way is a symbolic link, which may lead out of the root. `a/b/` asks for `a` and `b`."""
    folders = path.split("/")[:-1]
    return any((root / "/".join(folders[: depth + 1])).is_symlink() for depth in range(len(folders)))


def read_file(root: Path, path: str, max_bytes: int) -> tuple[bytes, FileStat]:
    """Content and the state it was read in. Opens no symbolic link. Raises `UnreadableDocument`, `OSError`."""
    if _passes_link(root, path):
        raise UnreadableDocument("it lies behind a symbolic link")
    descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableDocument("it is not a regular file")
        if status.st_size > max_bytes:
            raise UnreadableDocument(
                f"it is larger ({status.st_size:,} bytes) than the limit of {max_bytes:,} bytes (indexing.max_bytes)"
            )
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(max_bytes + 1), FileStat(status.st_size, status.st_mtime_ns)
    finally:
        os.close(descriptor)
