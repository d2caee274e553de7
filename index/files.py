"""The files of a watched folder, as the index sees them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from index.documents import FileStat
from index.errors import RootUnavailable, UnreadableDocument
from index.readers import is_readable

# Names editors and copying programs use while they write; what they leave behind is renamed when it is whole.
_TEMPORARY_SUFFIXES = ("~", ".tmp", ".swp", ".swx", ".part", ".crdownload")


def is_wanted(path: str) -> bool:
    """Whether a file of this relative path is indexed: readable by its suffix, not hidden, not a temporary file."""
    parts = PurePosixPath(path).parts
    return (
        not any(part.startswith(".") for part in parts)
        and not path.lower().endswith(_TEMPORARY_SUFFIXES)
        and is_readable(path)
    )


def scan(root: Path, below: str = "") -> Iterator[tuple[str, FileStat]]:
    """Wanted files under `root/below` with their paths relative to `root`, with /. Symbolic links are not followed.

    Raises `RootUnavailable` when `root` itself cannot be listed; a folder inside that cannot be listed is passed over.
    """
    try:
        entries = os.scandir(root)
    except OSError as error:
        raise RootUnavailable(root, error.strerror or str(error)) from error
    if below:
        entries.close()
        if _passes_link(root, f"{below}/"):
            return
        try:
            entries = os.scandir(root / below)
        except OSError:
            return
    pending = [(below, entries)]
    while pending:
        prefix, entries = pending.pop()
        with entries:
            for entry in entries:
                path = f"{prefix}/{entry.name}" if prefix else entry.name
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    try:
                        pending.append((path, os.scandir(entry.path)))
                    except OSError:
                        continue
                elif is_wanted(path) and (found := _stat_entry(entry)):
                    yield path, found


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
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableDocument("it is not a regular file")
        if status.st_size > max_bytes:
            raise UnreadableDocument(
                f"it is larger ({status.st_size:,} bytes) than the limit of {max_bytes:,} bytes (indexing.max_bytes)"
            )
        return file.read(max_bytes + 1), FileStat(status.st_size, status.st_mtime_ns)
