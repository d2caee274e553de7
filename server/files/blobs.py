"""Files on disk, under names of the server's own: their content once, and a link to it for each way it is cut.

    files/ID                        the content
    files/.incoming/…               what is still being received
    uploads/CHUNKING/ID/NAME        followed by the indexer

Nothing of a client's becomes part of a path but the letters and digits of a file's name, in its last part.
"""

import contextlib
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Collection as AnyOf
from pathlib import Path, PurePosixPath

from index.reading.readers import is_readable
from index.uploads import UploadPath, uploads_folder

_UNSPEAKABLE = re.compile(r"[^\w .()+-]+")
_LONGEST_STEM = 120  # bytes
_INCOMING = ".incoming"


class Contents:
    """Owns both folders of a data folder."""

    def __init__(self, data: Path) -> None:
        self._files = data.resolve() / "files"
        self.uploads = uploads_folder(data)
        for folder in (self._files, self._files / _INCOMING, self.uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, id: str) -> Path:
        return self._files / id

    def new_incoming(self) -> Path:
        """A path for what is being received."""
        return self._files / _INCOMING / secrets.token_hex(8)

    def keep(self, incoming: Path, id: str) -> None:
        """Makes what was received, and written to the disk, the content of a file; it is there after the power went."""
        incoming.rename(self.path(id))
        _sync(self._files)

    def remove(self, id: str) -> None:
        self.path(id).unlink(missing_ok=True)

    def link(self, id: str, place: UploadPath) -> None:
        """Lets the indexer see a file there. It appears as a whole."""
        target = self.uploads / str(place)
        if target.exists():
            return
        target.parent.parent.mkdir(mode=0o700, exist_ok=True)
        made = self.new_incoming()
        made.mkdir(mode=0o700)
        _link(self.path(id), made / place.name)
        made.replace(target.parent)

    def unlink(self, place: UploadPath) -> None:
        target = self.uploads / str(place)
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            target.parent.rmdir()

    def clear_up(self, ids: AnyOf[str], places: AnyOf[UploadPath]) -> None:
        """Makes the disk agree: what is not of these files and places goes, what of them is not seen is exposed."""
        shutil.rmtree(self._files / _INCOMING, ignore_errors=True)
        (self._files / _INCOMING).mkdir(mode=0o700)
        for path in self._files.iterdir():
            if path.name not in ids and path.name != _INCOMING:
                path.unlink()
        wanted = {str(place) for place in places}
        for path in list(self.uploads.glob("*/*/*")):
            if str(path.relative_to(self.uploads)) not in wanted:
                path.unlink()
        for folder in list(self.uploads.glob("*/*/")):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        for place in places:
            if self.path(place.id).exists():
                self.link(place.id, place)


def safe_filename(filename: str) -> str:
    """A file's name as far as it may stand on disk: letters, digits and a few signs, with its ending."""
    name = _UNSPEAKABLE.sub("_", unicodedata.normalize("NFC", filename))
    path = PurePosixPath(name)
    stem, suffix = (path.stem, path.suffix) if path.suffix else (name, "")
    short = stem.strip(" .").encode()[:_LONGEST_STEM].decode(errors="ignore")
    return f"{short or 'file'}{suffix.lower()}"


def is_searchable(filename: str) -> bool:
    return is_readable(safe_filename(filename))


def _link(source: Path, target: Path) -> None:
    """A second name, or where there are none, a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
