"""Snapshots of a vector index on disk, each a file with a number: a cache that is verified or not used.

FAISS files carry no checksum and its writer can report success on a full disk, so the bytes are framed here:

    magic · header length (4 bytes, big-endian) · header (JSON) · payload · SHA-256 of everything before

written to a temporary file, synced, read back and compared, renamed, and the folder synced. The newest generation that
verifies is the one; the previous one is kept.
"""

import contextlib
import hashlib
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

_MAGIC = b"CLOISTER-VECTORS-2\n"
_LENGTH = struct.Struct(">I")
_DIGEST_SIZE = hashlib.sha256().digest_size
_SUFFIX = ".vectors"
_NUMBER = re.compile(r"[0-9]{8}")
_KEPT = 2
_BLOCK = 1 << 20  # bytes
_MAX_HEADER = 1 << 16  # bytes


class Header(msgspec.Struct, frozen=True):
    database: str  # the id of the database whose chunks these are
    fingerprint: str  # of the embedder
    dimension: int
    count: int
    seq: int  # the newest change it contains


class Generation(NamedTuple):
    header: Header
    payload: memoryview


def write_generation(folder: Path, header: Header, payload: Iterable[bytes]) -> Path:
    """Raises `OSError`; then the newest generation is what it was before."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.encode(header)
    number = 1 + max((int(path.stem) for path in _files(folder)), default=0)
    final = folder / f"{number:08d}{_SUFFIX}"
    temporary = folder / f"{number:08d}.tmp"
    try:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for part in (_MAGIC, _LENGTH.pack(len(encoded)), encoded, *payload):
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        if not _holds(temporary, digest.digest()):
            raise OSError(f"{temporary} does not read back as it was written")
        temporary.replace(final)
        _sync_folder(folder)
    finally:
        temporary.unlink(missing_ok=True)
    for old in _files(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return final


def read_newest(folder: Path, database: str, fingerprint: str, dimension: int) -> Generation | None:
    """The newest intact generation of this database and vector space, or None: then the vectors are the way."""
    wanted = database, fingerprint, dimension
    for path in reversed(_files(folder)):
        generation = _read(path)
        if generation is not None:
            header = generation.header
            if (header.database, header.fingerprint, header.dimension) == wanted:
                return generation
    return None


def _files(folder: Path) -> list[Path]:
    """Generations by number, oldest first; whatever else lies in the folder is left alone."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if _NUMBER.fullmatch(path.stem))


def newest_header(folder: Path, database: str, fingerprint: str, dimension: int) -> Header | None:
    """What the newest generation of this database and space says of itself, unverified."""
    wanted = database, fingerprint, dimension
    for path in reversed(_files(folder)):
        header = _header(path)
        if header is not None and (header.database, header.fingerprint, header.dimension) == wanted:
            return header
    return None


def _header(path: Path) -> Header | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError, struct.error), path.open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            (size,) = _LENGTH.unpack(file.read(_LENGTH.size))
            return msgspec.json.decode(file.read(min(size, _MAX_HEADER)), type=Header)
    return None


def _read(path: Path) -> Generation | None:
    """The file, read once: what was verified is what is used."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, struct.error), path.open("rb") as file:
        content = memoryview(bytearray(os.fstat(file.fileno()).st_size))
        if file.readinto(content) != len(content):
            return None
        body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
        if body[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != digest:
            return None
        start = len(_MAGIC) + _LENGTH.size
        (size,) = _LENGTH.unpack(body[len(_MAGIC) : start])
        return Generation(msgspec.json.decode(body[start : start + size], type=Header), body[start + size :])
    return None


def _holds(path: Path, digest: bytes) -> bool:
    """Whether the file reads back as what has this digest, followed by the digest."""
    with path.open("rb") as file:
        size, found = os.fstat(file.fileno()).st_size - _DIGEST_SIZE, hashlib.sha256()
        while size > 0 and (part := file.read(min(size, _BLOCK))):
            found.update(part)
            size -= len(part)
        return size == 0 and found.digest() == digest == file.read()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
