"""Snapshots of a vector index on disk, each a numbered file: a cache, used only when it verifies.

FAISS files carry no checksum and its writer can report success on a full disk, so the bytes are framed here:

    magic · header length (4 bytes, big-endian) · header (JSON) · payload · vectors · SHA-256 of everything before

A file is written under a temporary name, synced, read back and compared, renamed, and its folder synced. Readers use
the newest generation that verifies; the one before it is kept.
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

from index.dense.stored_vectors import StoredVectors

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
    """A verified generation. `stored_vectors` stays on disk; the caller closes it."""

    header: Header
    payload: memoryview
    stored_vectors: StoredVectors | None


def write_generation(
    folder: Path, header: Header, payload: Iterable[bytes], stored_vectors: StoredVectors | None = None
) -> Path:
    """Write the next generation and return its path. Raises `OSError`, and then the newest one is as before."""
    folder.mkdir(parents=True, exist_ok=True)
    header = msgspec.structs.replace(header, stored_size=stored_vectors.size if stored_vectors else 0)
    encoded = msgspec.json.encode(header)
    number = 1 + max((int(path.stem) for path in _files(folder)), default=0)
    final = folder / f"{number:08d}{_SUFFIX}"
    temporary = folder / f"{number:08d}.tmp"
    try:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for part in chain(
                (_MAGIC, _LENGTH.pack(len(encoded)), encoded),
                payload,
                stored_vectors.blocks() if stored_vectors else (),
            ):
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        if not _reads_back(temporary, digest.digest()):
            raise OSError(f"{temporary} does not read back as it was written")
        temporary.replace(final)
        _sync_folder(folder)
    finally:
        temporary.unlink(missing_ok=True)
    for old in _files(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return final


def read_newest(folder: Path, database: str, fingerprint: str, dimension: int) -> Generation | None:
    """Return the newest intact generation of this database and vector space; None without one."""
    for path in reversed(_files(folder)):
        if _belongs_to(_header(path), database, fingerprint, dimension) and (generation := _read(path)):
            return generation
    return None


def _files(folder: Path) -> list[Path]:
    """Return the generations by number, oldest first; other files in the folder are ignored."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if _NUMBER.fullmatch(path.stem))


def newest_header(folder: Path, database: str, fingerprint: str, dimension: int) -> Header | None:
    """Return the header of the newest generation of this database and space, unverified."""
    for path in reversed(_files(folder)):
        header = _header(path)
        if _belongs_to(header, database, fingerprint, dimension):
            return header
    return None


def _belongs_to(header: Header | None, database: str, fingerprint: str, dimension: int) -> bool:
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
    """Return the generation in a file, None unless it verifies. Only its payload is read into memory."""
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
        if not _ends_with_digest(file, header.stored_size, digest):
            return None
        stored_vectors = None
        if header.stored_size:
            stack.pop_all()
            stored_vectors = StoredVectors(file, start + payload_size, header.stored_size)
        return Generation(header, payload, stored_vectors)
    return None


def _ends_with_digest(file: IO[bytes], size: int, digest: "hashlib._Hash") -> bool:
    """Read `size` bytes into the digest; return whether the rest of the file is then equal to it."""
    while size > 0 and (part := file.read(min(size, _BLOCK))):
        digest.update(part)
        size -= len(part)
    return size == 0 and file.read() == digest.digest()


def _reads_back(path: Path, digest: bytes) -> bool:
    """Return whether the file reads back as content of this digest, followed by the digest."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - _DIGEST_SIZE
        actual = hashlib.sha256()
        return _ends_with_digest(file, size, actual) and actual.digest() == digest


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
