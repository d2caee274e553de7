"""List, check and open the files of a followed folder. Symbolic links are never followed."""

import logging
import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from index.errors import RootUnavailable, UnreadableDocument
from index.ingest.ignore_rules import IGNORE_FILE, IgnoreRules, is_ignored, rules_at
from index.reading.readers import is_readable
from index.storage.records import FileStat

_log = logging.getLogger(__name__)

# Names that editors and copying programs use while they write; a complete file is renamed to its own name.
_TEMPORARY_SUFFIXES = ("~", ".tmp", ".swp", ".swx", ".part", ".crdownload")
_MAX_INODE = (1 << 63) - 1  # what SQLite can hold


class Listing(NamedTuple):
    """The contents of a folder and all below it. Paths are relative to the root, with /."""

    files: list[tuple[str, FileStat]]  # the wanted files
    unlisted: list[str]  # folders that could not be listed: what lies below them is not known
    links: list[str]  # symbolic links to folders


def is_wanted(path: str) -> bool:
    """Return whether a path may be indexed by its name: readable, not hidden, and not a temporary file's."""
    return not is_hidden(path) and _is_wanted_name(path.rpartition("/")[2])


def is_hidden(path: str) -> bool:
    return path.startswith(".") or "/." in path


def _is_wanted_name(name: str) -> bool:
    name = name.lower()
    return not name.endswith(_TEMPORARY_SUFFIXES) and _is_readable_suffix(name.rpartition(".")[2])


@lru_cache(1024)
def _is_readable_suffix(suffix: str) -> bool:
    return is_readable(f"a.{suffix}")


def is_nameable(path: str) -> bool:
    """Return whether a path is Unicode; another can be neither stored nor shown."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_empty(root: Path) -> bool:
    """Return whether the folder has no entry, like the mount point of an unmounted disk. Raises `RootUnavailable`."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError as error:
        raise RootUnavailable(root, error.strerror or str(error)) from error


def list_files(root: Path, below: str = "", excluded: Path | None = None) -> Listing:
    """List the wanted files under `root/below`, without the folder `excluded`.

    Raises `RootUnavailable` when `root` itself cannot be listed.
    """
    is_empty(root)
    listing = Listing([], [], [])
    try:
        rules = None if below and _passes_link(root, f"{below}/") else rules_at(root, below)
    except OSError:
        listing.unlisted.append(below)
        return listing
    without = os.fspath(excluded) if excluded else ""
    pending = [] if rules is None else [(below, rules)]
    while pending:  # one open folder at a time, however many there are
        folder, rules = pending.pop()
        place = f"{root}/{folder}"
        try:
            with os.scandir(place) as iterator:
                entries = list(iterator)
            if any(entry.name == IGNORE_FILE for entry in entries):
                rules = rules.enter(root, folder)
            pending += [
                (path, rules)
                for path in _add_entries(folder, entries, rules, listing)
                if not without or f"{root}/{path}" != without
            ]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            _log.warning("cannot list the folder %s: %s; its documents stay as they are", place, error.strerror)
            listing.unlisted.append(folder)
    return listing


def _add_entries(folder: str, entries: "list[os.DirEntry[str]]", rules: IgnoreRules, listing: Listing) -> Iterator[str]:
    """Add the folder's wanted files and its links to the listing, and yield the paths of the folders in it."""
    prefix = f"{folder}/" if folder else ""
    for entry in entries:
        name = entry.name
        if name[0] == ".":
            continue
        if entry.is_symlink():
            if entry.is_dir():
                listing.links.append(prefix + name)
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if not is_folder and not (_is_wanted_name(name) and entry.is_file(follow_symlinks=False)):
            continue
        path = prefix + name
        if not is_nameable(path):
            _log.warning("skipped, because its name is not UTF-8: %s; rename it to have it indexed", ascii(path))
        elif rules.layers and rules.match(path, is_folder=is_folder):
            continue
        elif is_folder:
            yield path
        elif file_stat := _stat_entry(entry):
            listing.files.append((path, file_stat))


def _stat_entry(entry: "os.DirEntry[str]") -> FileStat | None:
    try:
        return _as_file(entry.stat(follow_symlinks=False))
    except OSError:
        return None  # gone since it was listed


def _as_file(status: os.stat_result) -> FileStat | None:
    """Return the attributes of a regular file, None for anything else."""
    return _file_stat(status) if stat.S_ISREG(status.st_mode) else None


def _file_stat(status: os.stat_result) -> FileStat:
    return FileStat(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & _MAX_INODE)


def stat_file(root: Path, path: str) -> FileStat | None:
    """Return a file's attributes; None when there is no regular file, or only through a symbolic link."""
    if _passes_link(root, path):
        return None
    try:
        return _as_file((root / path).lstat())
    except (OSError, ValueError):
        return None


def is_indexable(root: Path, path: str) -> bool:
    """Return whether a file of this path, if there is one, is indexed by its name and by the ignore files.

    Raises `OSError` while an ignore file cannot be read.
    """
    return is_wanted(path) and not is_ignored(root, path)


def folder_identity(root: Path) -> str:
    """Return what differs when another folder lies at this path: made anew, or of another disk. Raises `OSError`."""
    status = root.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _passes_link(root: Path, path: str) -> bool:
    """Return whether a folder on the way to a path is a symbolic link. For `a/b/`, these are `a` and `b`."""
    place = root
    for part in path.split("/")[:-1]:
        place /= part
        if place.is_symlink():
            return True
    return False


def open_file(root: Path, path: str) -> int:
    """Open a regular file and return its descriptor, which the caller closes.

    Raises `UnreadableDocument` for a symbolic link and for anything but a regular file, and `OSError`.
    """
    if _passes_link(root, path):
        raise UnreadableDocument("it lies behind a symbolic link")
    descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableDocument("it is not a regular file")
    return descriptor


def read_file(root: Path, path: str, max_bytes: int) -> tuple[bytes, FileStat]:
    """Return a file's content and its attributes at that time. Raises what `open_file` does."""
    descriptor = open_file(root, path)
    try:
        status = os.fstat(descriptor)
        if status.st_size > max_bytes:
            raise UnreadableDocument(
                f"it is larger ({status.st_size:,} bytes) than the limit of {max_bytes:,} bytes (indexing.max_bytes)"
            )
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(max_bytes + 1), _file_stat(status)
    finally:
        os.close(descriptor)
