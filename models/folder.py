"""The user's own models: GGUF files in one folder, and a manifest of what each of them was when it came.

A file has no checksum of its own, and an altered one loads as well as a sound one. So its SHA-256 is noted when it is
taken in, and compared before it is used; read again when the file is not the one that was compared last, by device,
number, size and times, and once a week all the same: a disk alters files without touching their times. Files that were
put there by hand are not in the manifest, and are used as they are.
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
_INCOMING = ".{}.part"
_PIECE = 1 << 20
_WEEK_S = 7 * 24 * 3600


class FileIdentity(msgspec.Struct, frozen=True):
    """Another file, or another content, has another."""

    device: int
    number: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises `OSError`."""
        stat = path.stat()
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class ImportedFile(msgspec.Struct, frozen=True):
    """`verified`: the file whose hash this was, when last compared, at `verified_at`. `source`: where it came from.
    Unix seconds."""

    sha256: str
    size: int
    verified: FileIdentity
    source: str
    added_at: int
    verified_at: int = 0

    def is_fresh(self, identity: FileIdentity, now: float) -> bool:
        """Whether this very file was compared within a week; a clock that went back tells nothing."""
        return identity == self.verified and 0 <= now - self.verified_at < _WEEK_S


class FolderManifest(msgspec.Struct, frozen=True):
    files: dict[str, ImportedFile] = {}
    version: int = 1


class ModelsFolder:
    """Every command and the server open it anew; changes are made one at a time, under a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> dict[str, ImportedFile]:
        """By file name. Raises `ModelFileError` for a manifest that cannot be read."""
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
        """All models in it, by name."""
        return sorted(path for path in self.path.glob("*.gguf") if path.is_file())

    def check(self, path: Path) -> None:
        """Raises `ModelFileError` for a file that is not what it was when it was taken in."""
        if path.parent != self.path or (entry := self.entries().get(path.name)) is None:
            return
        if not entry.is_fresh(_identity_of(path), time.time()):
            self.verify(path, entry)

    def verify(self, path: Path, entry: ImportedFile) -> None:
        """Reads all of it. Raises `ModelFileError` as `check` does."""
        identity = _identity_of(path)
        if identity.size != entry.size or sha256_of(path) != entry.sha256:
            raise ModelFileError(
                path,
                f"it is not the file that was imported (SHA-256 {entry.sha256[:12]}…): it was altered or cut; import it"
                " again",
            )
        with contextlib.suppress(ModelFileError):  # a folder that is only read is compared each time
            self._change(path.name, msgspec.structs.replace(entry, verified=identity, verified_at=int(time.time())))

    @contextlib.contextmanager
    def receive(self, name: str) -> Iterator["IncomingModel"]:
        """A file being received. What came of it stays when it was not kept, to go on with it later. Raises
        `ModelFileError`."""
        incoming = self.path / _INCOMING.format(name)
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
            raise ModelFileError(incoming, "another command is at this file; wait for it") from None
        except OSError as error:
            raise ModelFileError(incoming, error.strerror or str(error)) from error

    def remove(self, name: str) -> None:
        """Raises `ModelFileError`."""
        path = self.path / name
        try:
            path.unlink()
        except OSError as error:
            raise ModelFileError(path, error.strerror or str(error)) from error
        self._change(name, None)

    def _change(self, name: str, entry: ImportedFile | None) -> None:
        file = self.path / MANIFEST
        try:
            with (self.path / f".{MANIFEST}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                entries = {key: value for key, value in self.entries().items() if key != name}
                if entry is not None:
                    entries[name] = entry
                fresh = file.with_suffix(".new")
                with fresh.open("wb") as written:
                    written.write(
                        msgspec.json.format(msgspec.json.encode(FolderManifest(dict(sorted(entries.items())))))
                    )
                    written.flush()
                    os.fsync(written.fileno())
                fresh.replace(file)
        except OSError as error:
            raise ModelFileError(file, error.strerror or str(error)) from error


class IncomingModel:
    """What is there of a file already, and what comes. What was left half-way can be gone on with."""

    def __init__(self, folder: ModelsFolder, name: str, path: Path, descriptor: int) -> None:
        self._folder = folder
        self.name = name
        self._descriptor = descriptor
        self.path = path
        self._digest = hashlib.sha256()
        self.size = 0
        with path.open("rb") as there:
            while piece := there.read(_PIECE):
                self._digest.update(piece)
                self.size += len(piece)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Raises `OSError`."""
        left = memoryview(piece)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._digest.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        """From nothing."""
        os.ftruncate(self._descriptor, 0)
        self._digest = hashlib.sha256()
        self.size = 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def keep(self, source: str) -> Path:
        """Under its name, on the disk, and in the manifest. Raises `OSError`, `ModelFileError`."""
        os.fsync(self._descriptor)
        target = self._folder.path / self.name
        self.path.replace(target)
        now = int(time.time())
        entry = ImportedFile(self.sha256, self.size, FileIdentity.of(target), source, now, now)
        self._folder._change(self.name, entry)
        return target


def _identity_of(path: Path) -> FileIdentity:
    try:
        return FileIdentity.of(path)
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error


def sha256_of(path: Path) -> str:
    """Raises `ModelFileError`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error
