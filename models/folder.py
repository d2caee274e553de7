"""The user's own models: GGUF files in one folder, and a manifest with the SHA-256 of each imported file.

A GGUF has no checksum of its own, and an altered file loads as well as a sound one. So a file's SHA-256 is recorded
when it is imported, and verified before the file is used. It is read again when the file is not the one that was
verified last, by device, inode, size and times, and once a week in any case: a failing disk alters files without
touching their times. Files that were copied there by hand are not in the manifest, and are used as they are.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from models.errors import ModelFileError

MANIFEST = "manifest.json"
_PARTIAL_NAME = ".{}.part"
_READ_BYTES = 1 << 20
_WEEK_S = 7 * 24 * 3600


class FileIdentity(msgspec.Struct, frozen=True):
    """Identifies a file and its content without reading it: another file, or changed content, has another identity."""

    device: int
    number: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return a file's identity. Raises `OSError`."""
        stat = path.stat()
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class ImportedFile(msgspec.Struct, frozen=True):
    """A file's entry in the manifest. Times are Unix seconds.

    `verified`: the file's identity when its hash was compared last, at `verified_at`. `source`: where it came from.
    """

    sha256: str
    size: int
    verified: FileIdentity
    source: str
    added_at: int
    verified_at: int = 0

    def is_fresh(self, identity: FileIdentity, now: float) -> bool:
        """Return whether this very file was verified within the last week; a time in the future does not count."""
        return identity == self.verified and 0 <= now - self.verified_at < _WEEK_S


class FolderManifest(msgspec.Struct, frozen=True):
    """The manifest file. `files`: by file name."""

    files: dict[str, ImportedFile] = {}
    version: int = 1


class ModelsFolder:
    """A folder of models. It has no state of its own: several processes use it, and change it under a file lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> dict[str, ImportedFile]:
        """Return the manifest by file name. Raises `ModelFileError` when it cannot be read."""
        file = self.path / MANIFEST
        try:
            return msgspec.json.decode(file.read_bytes(), type=FolderManifest).files
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ModelFileError(file, error.strerror or str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelFileError(
                file, f"not a manifest ({error}); move it away, and import the models again to have them verified"
            ) from error

    def files(self) -> list[Path]:
        """Return all GGUF files in the folder, sorted by name."""
        return sorted(path for path in self.path.glob("*.gguf") if path.is_file())

    def check(self, path: Path) -> None:
        """Verify a file unless that was done lately. Raises `ModelFileError` when it is not the imported file."""
        if path.parent != self.path or (entry := self.entries().get(path.name)) is None:
            return
        if not entry.is_fresh(_identity_of(path), time.time()):
            self.verify(path, entry)

    def verify(self, path: Path, entry: ImportedFile) -> None:
        """Read the whole file and compare its hash. Raises `ModelFileError` when it is not the imported file."""
        identity = _identity_of(path)
        if identity.size != entry.size or sha256_of(path) != entry.sha256:
            raise ModelFileError(
                path,
                f"it is not the file that was imported (SHA-256 {entry.sha256[:12]}…): it was altered or cut; import it"
                " again",
            )
        with contextlib.suppress(ModelFileError):  # in a read-only folder it is verified each time
            self._change(path.name, msgspec.structs.replace(entry, verified=identity, verified_at=int(time.time())))

    @contextlib.contextmanager
    def receive(self, name: str) -> Iterator["IncomingModel"]:
        """Open a partial file to write a model into. It stays when the body ends without `keep`, to be resumed later.

        Raises `ModelFileError`.
        """
        incoming = self.path / _PARTIAL_NAME.format(name)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with incoming.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    yield IncomingModel(self, name, incoming, file.fileno())
                finally:
                    if incoming.exists() and not incoming.stat().st_size:
                        incoming.unlink()
        except BlockingIOError:
            raise ModelFileError(incoming, "another command is writing this file; wait until it has finished") from None
        except OSError as error:
            raise ModelFileError(incoming, error.strerror or str(error)) from error

    def remove(self, name: str) -> None:
        """Delete a file and its entry. Raises `ModelFileError`."""
        path = self.path / name
        try:
            path.unlink()
        except OSError as error:
            raise ModelFileError(path, error.strerror or str(error)) from error
        self._change(name, None)

    def _change(self, name: str, entry: ImportedFile | None) -> None:
        """Replace or remove (None) one entry of the manifest, under the lock."""
        file = self.path / MANIFEST
        try:
            with (self.path / f".{MANIFEST}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                entries = {key: value for key, value in self.entries().items() if key != name}
                if entry is not None:
                    entries[name] = entry
                new_file = file.with_suffix(".new")
                with new_file.open("wb") as output:
                    output.write(
                        msgspec.json.format(msgspec.json.encode(FolderManifest(dict(sorted(entries.items())))))
                    )
                    output.flush()
                    os.fsync(output.fileno())
                new_file.replace(file)
        except OSError as error:
            raise ModelFileError(file, error.strerror or str(error)) from error


class IncomingModel:
    """A model file that is being written. It begins with what an earlier command has left of it."""

    def __init__(self, folder: ModelsFolder, name: str, path: Path, descriptor: int) -> None:
        self._folder = folder
        self.name = name
        self._descriptor = descriptor
        self.path = path
        self._digest = hashlib.sha256()
        self.size = 0
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                self._digest.update(piece)
                self.size += len(piece)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Append bytes. Raises `OSError`."""
        remaining = memoryview(piece)
        while remaining:
            remaining = remaining[os.write(self._descriptor, remaining) :]
        self._digest.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        """Drop what has been written."""
        os.ftruncate(self._descriptor, 0)
        self._digest = hashlib.sha256()
        self.size = 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def keep(self, source: str) -> Path:
        """Sync the file, give it its name and enter it in the manifest. Raises `OSError`, `ModelFileError`."""
        os.fsync(self._descriptor)
        target = self._folder.path / self.name
        self.path.replace(target)
        now = int(time.time())
        entry = ImportedFile(
            sha256=self.sha256,
            size=self.size,
            verified=FileIdentity.of(target),
            source=source,
            added_at=now,
            verified_at=now,
        )
        self._folder._change(self.name, entry)
        return target


def _identity_of(path: Path) -> FileIdentity:
    try:
        return FileIdentity.of(path)
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits. Raises `ModelFileError`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error
