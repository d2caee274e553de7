"""The files of a tantivy index folder, verified before tantivy reads them.

tantivy verifies nothing when it opens a folder. Here `meta.json` is compared with the schema, and each file, once, with
the checksum in its footer. The writer also notes each file's checksum in `sums.json`, so that an intact file in the
place of another is noticed too.
"""

import contextlib
import re
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import tantivy

from index.errors import LexicalIndexError

ENGINE = str(vars(tantivy)["__version__"])  # with the number of its file format; the type stubs lack it

_META = "meta.json"
_SUMS = "sums.json"  # CRC-32 by file; for a file that is not in it, the footer alone is trusted
_FOOTER = struct.Struct("<II")  # length of the footer's JSON, magic number
_MAGIC = 1337
_BLOCK = 1 << 20  # bytes
_NUMBER = re.compile(r"[0-9]{8}")
_KINDS = frozenset(("fast", "fieldnorm", "idx", "pos", "store", "term"))  # of every segment
_ATTEMPTS = 5  # at a folder that changes while it is read


class _Deletes(msgspec.Struct, forbid_unknown_fields=True):
    num_deleted_docs: int
    opstamp: int


class _Segment(msgspec.Struct, forbid_unknown_fields=True):
    segment_id: str
    max_doc: int
    deletes: _Deletes | None = None


class IndexMeta(msgspec.Struct, forbid_unknown_fields=True):
    """tantivy's meta.json."""

    index_settings: Any
    segments: list[_Segment]
    schema: Any
    opstamp: int
    payload: str | None = None

    @property
    def num_docs(self) -> int:
        return sum(s.max_doc - (s.deletes.num_deleted_docs if s.deletes else 0) for s in self.segments)

    @property
    def file_names(self) -> set[str]:
        names = set()
        for segment in self.segments:
            stem = segment.segment_id.replace("-", "")
            names |= {f"{stem}.{kind}" for kind in _KINDS}
            if segment.deletes:
                names.add(f"{stem}.{segment.deletes.opstamp}.del")
        return names


class MetaIdentity(NamedTuple):
    """Attributes of meta.json that differ after each commit and merge, which replace it as a whole."""

    inode: int
    mtime_ns: int
    size: int


def new_schema() -> tantivy.Schema:
    """Return the schema of an index. The ids are signed integers: tantivy's binding deletes by signed terms only."""
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("chunk", indexed=True, fast=True)
    builder.add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field("scope", tokenizer_name="whitespace", index_option="basic")
    builder.add_text_field("mark", stored=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


@contextlib.contextmanager
def lexical_index_errors(folder: Path) -> Iterator[None]:
    """Raise tantivy's errors and panics as `LexicalIndexError`."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, msgspec.MsgspecError) as error:
        raise LexicalIndexError(folder, str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3's, which cannot be imported
            raise
        raise LexicalIndexError(folder, str(error)) from error


def newest_folder(parent: Path) -> Path | None:
    """Return the index folder with the highest number."""
    return max((path for path in parent.glob("*") if _NUMBER.fullmatch(path.name)), default=None)


def next_folder(parent: Path) -> Path:
    newest = newest_folder(parent)
    return parent / f"{1 + int(newest.name) if newest else 1:08d}"


def remove_folders(parent: Path, keep: Path | None = None) -> None:
    """Remove the index folders but `keep`. Processes that have one open go on reading it; what cannot be removed now is
    removed the next time."""
    for path in parent.glob("*"):
        if _NUMBER.fullmatch(path.name) and path != keep:
            shutil.rmtree(path, ignore_errors=True)


class VerifiedFiles:
    """Remembers which files of a folder were compared with their checksums."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums: dict[str, int] = {}  # CRC-32 by file

    def verify(self) -> IndexMeta:
        """Verify the files of the newest commit that are not verified yet. Raises `ValueError`, `OSError`,
        `LexicalIndexError`."""
        for attempt in range(_ATTEMPTS):
            meta = read_meta(self._folder)
            names = meta.file_names
            try:
                noted = self._read_sums() if names - self._sums.keys() else {}
                for name in sorted(names - self._sums.keys()):
                    crc = _verified_crc(self._folder / name)
                    if noted.get(name, crc) != crc:
                        raise ValueError(f"{name} is another file")
                    self._sums[name] = crc
            except FileNotFoundError:
                if attempt + 1 == _ATTEMPTS or read_meta(self._folder) == meta:
                    raise
                continue  # it was merged into another segment meanwhile
            self._sums = {name: self._sums[name] for name in names}
            return meta
        raise LexicalIndexError(self._folder, "it changes faster than it can be read")

    def write_sums(self) -> None:
        """Write the checksums of all verified files. Only the one writer of the folder does."""
        temporary = self._folder / f"{_SUMS}.tmp"
        temporary.write_bytes(msgspec.json.encode(self._sums))
        temporary.replace(self._folder / _SUMS)

    def _read_sums(self) -> dict[str, int]:
        """Return the written checksums. The file is not synced, so after a power failure it may hold anything."""
        try:
            return msgspec.json.decode((self._folder / _SUMS).read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}


def meta_identity(folder: Path) -> MetaIdentity:
    stat = (folder / _META).stat()
    return MetaIdentity(inode=stat.st_ino, mtime_ns=stat.st_mtime_ns, size=stat.st_size)


def read_meta(folder: Path) -> IndexMeta:
    """Read meta.json. Raises `ValueError` for anything but what this version writes."""
    meta = msgspec.json.decode((folder / _META).read_bytes(), type=IndexMeta)
    if (meta.index_settings, meta.schema) != _expected_settings_and_schema():
        raise ValueError("its schema is another one")
    if any(segment.deletes and segment.deletes.opstamp > meta.opstamp for segment in meta.segments):
        raise ValueError("its operations are out of order")
    return meta


def _expected_settings_and_schema() -> tuple[Any, Any]:
    """Return `new_schema` and the default settings as tantivy writes them to meta.json."""

    def text(name: str, record: str, tokenizer: str, *, stored: bool) -> dict[str, Any]:
        indexing = {"record": record, "fieldnorms": True, "tokenizer": tokenizer}
        return {"name": name, "type": "text", "options": {"indexing": indexing, "stored": stored, "fast": False}}

    integer = {"indexed": True, "fieldnorms": False, "fast": True, "stored": False}
    return {"docstore_compression": "lz4", "docstore_blocksize": 16384}, [
        {"name": "chunk", "type": "i64", "options": integer},
        text("terms", "freq", "whitespace", stored=False),
        text("scope", "basic", "whitespace", stored=False),
        text("mark", "basic", "raw", stored=True),
    ]


def _verified_crc(path: Path) -> int:
    """Return a file's CRC-32. Raises `ValueError` unless it is the one in the file's footer."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _FOOTER.size, 0))
        length, _ = _FOOTER.unpack(file.read().rjust(_FOOTER.size, b"\0"))
        remaining = size - _FOOTER.size - length
        file.seek(0)
        crc = 0
        while remaining > 0 and (block := file.read(min(remaining, _BLOCK))):
            crc = zlib.crc32(block, crc)
            remaining -= len(block)
        footer = _footer(crc)
        if remaining or file.read() != footer + _FOOTER.pack(len(footer), _MAGIC):
            raise ValueError(f"{path.name} is damaged")
    return crc


def _footer(crc: int) -> bytes:
    major, minor, patch, index_format = re.findall(r"\d+", ENGINE)
    return (
        f'{{"version":{{"major":{major},"minor":{minor},"patch":{patch},"index_format_version":{index_format}}},'
        f'"crc":{crc}}}'
    ).encode()
