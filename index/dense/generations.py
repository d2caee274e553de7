"""Snapshots of a vector index on disk, each a file with a number: a cache that is verified or not used.

FAISS files carry no checksum and its writer can report success on a full disk, so the bytes are framed here:

    magic · header length (4 bytes, big-endian) · header (JSON) · payload · vectors · SHA-256 of everything before

written to a temporary file, synced, read back and compared, renamed, and the folder synced. The newest generation that
verifies is the one; the previous one is kept.
"""

import contextlib
import hashlib
import os
import re
import struct
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from index.dense.vector_index import StoredVectors

_MAGIC = b"CLOISTER-VECTORS-3\n"
_LENGTH = struct.Struct(">I")
_DIGEST_SIZE = hashlib.sha256().digest_size
_SUFFIX = ".vectors"
_NUMBER = re.compile(r"[0-9]{8}")
_KEPT = 2
_BLOCK = 1 << 20  # bytes
_MAX_HEADER = 1 << 16  # bytes
_DAMAGE = OSError, msgspec.MsgspecError, struct.error, UnicodeDecodeError


class Header(msgspec.Struct, frozen=True):
    database: str  # the id of the database whose chunks these are
    fingerprint: str  # of the embedder
    dimension: int
    count: int
    seq: int  # the newest change it contains
    stored_size: int = 0  # bytes of vectors behind the payload


class Generation(NamedTuple):
    """`stored` stays on disk, and is the caller's to close."""

    header: Header
    payload: memoryview
    stored: StoredVectors | None


def write_generation(
    folder: Path, header: Header, payload: Iterable[bytes], stored: StoredVectors | None = None
) -> Path:
    """Raises `OSError`; then the newest generation is what it was before."""
    folder.mkdir(parents=True, exist_ok=True)
    header = msgspec.structs.replace(header, stored_size=stored.size if stored else 0)
    encoded = msgspec.json.encode(header)
    number = 1 + max((int(path.stem) for path in _files(folder)), default=0)
    final = folder / f"{number:08d}{_SUFFIX}"
    temporary = folder / f"{number:08d}.tmp"
    try:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for part in chain(
                (_MAGIC, _LENGTH.pack(len(encoded)), encoded), payload, stored.blocks() if stored else ()
            ):
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
    for path in reversed(_files(folder)):
        if _is_of(_header(path), database, fingerprint, dimension) and (generation := _read(path)):
            return generation
    return None


def _files(folder: Path) -> list[Path]:
    """Generations by number, oldest first; whatever else lies in the folder is left alone."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if _NUMBER.fullmatch(path.stem))


def newest_header(folder: Path, database: str, fingerprint: str, dimension: int) -> Header | None:
    """What the newest generation of this database and space says of itself, unverified."""
    for path in reversed(_files(folder)):
        header = _header(path)
        if _is_of(header, database, fingerprint, dimension):
            return header
    return None


def _is_of(header: Header | None, database: str, fingerprint: str, dimension: int) -> bool:
    return header is not None and (header.database, header.fingerprint, header.dimension) == (
        database,
        fingerprint,
        dimension,
    )


def _header(path: Path) -> Header | None:
    with contextlib.suppress(*_DAMAGE), path.open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            (size,) = _LENGTH.unpack(file.read(_LENGTH.size))
            return msgspec.json.decode(file.read(min(size, _MAX_HEADER)), type=Header)
    return None


def _read(path: Path) -> Generation | None:
    """The file, verified. What stays in memory is what was verified; the vectors behind it stay in the open file."""
    with contextlib.ExitStack() as stack, contextlib.suppress(*_DAMAGE):
        file = stack.enter_context(path.open("rb"))
        head = file.read(len(_MAGIC) + _LENGTH.size)
        if head[: len(_MAGIC)] != _MAGIC:
            return None
        (size,) = _LENGTH.unpack(head[len(_MAGIC) :])
        encoded = file.read(min(size, _MAX_HEADER))
        header = msgspec.json.decode(encoded, type=Header)
        start = len(head) + len(encoded)
        payload_size = os.fstat(file.fileno()).st_size - start - header.stored_size - _DIGEST_SIZE
        if payload_size < 0 or header.stored_size < 0:
            return None
        payload = memoryview(bytearray(payload_size))
        file.readinto(payload)
        digest = hashlib.sha256(head + encoded)
        digest.update(payload)
        if not _ends_with(file, header.stored_size, digest):
            return None
        stored = None
        if header.stored_size:
            stack.pop_all()
            stored = StoredVectors(file, start + payload_size, header.stored_size)
        return Generation(header, payload, stored)
    return None


def _ends_with(file: IO[bytes], size: int, digest: "hashlib._Hash") -> bool:
    """Whether so many more bytes come, and then the digest of all, with these taken in."""
    while size > 0 and (part := file.read(min(size, _BLOCK))):
        digest.update(part)
        size -= len(part)
    return size == 0 and file.read() == digest.digest()


def _holds(path: Path, digest: bytes) -> bool:
    """Whether the file reads back as what has this digest, followed by the digest."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - _DIGEST_SIZE
        found = hashlib.sha256()
        return _ends_with(file, size, found) and found.digest() == digest


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
