"""Open formats that are ZIP archives, after a check of the directory and of the head of each XML part."""

import io
import re
import zipfile

from index.errors import UnreadableDocument

_MAX_ENTRIES = 10_000
_MAX_TOTAL_BYTES = 512 << 20  # unpacked
_MAX_RATIO = 100
_MIN_SUSPECT = 16 << 20  # bytes, unpacked; smaller archives may have any ratio
_HEAD_BYTES = 1 << 16  # of an XML part, in which a document type would stand
_XML = (".xml", ".rels", ".opf", ".ncx")
_DTD = re.compile(rb"<!(?:ENTITY|DOCTYPE[^>]*\[)")  # a document type that declares entities itself


def open_archive(content: bytes) -> zipfile.ZipFile:
    """Return the archive. Raises `UnreadableDocument` for too many or too large parts, and for declared entities."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        if content.startswith(b"\xd0\xcf\x11\xe0"):
            raise UnreadableDocument("it is encrypted, or of the old binary format") from error
        raise UnreadableDocument("its ZIP archive is damaged") from error
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES:
        raise UnreadableDocument(f"its archive has {len(entries):,} parts, more than {_MAX_ENTRIES:,}")
    total = sum(entry.file_size for entry in entries)
    if total > _MAX_TOTAL_BYTES:
        raise UnreadableDocument(f"it unpacks to {total >> 20:,} MiB, more than {_MAX_TOTAL_BYTES >> 20:,}")
    if total > max(_MIN_SUSPECT, _MAX_RATIO * len(content)):
        raise UnreadableDocument(f"it unpacks to more than {_MAX_RATIO} times its size")
    for entry in entries:
        if entry.flag_bits & 1:
            raise UnreadableDocument("it is encrypted")
        if entry.filename.lower().endswith(_XML) and _DTD.search(read_part(archive, entry.filename, _HEAD_BYTES)):
            raise UnreadableDocument("its XML declares entities, which can unfold without end")
    return archive


def read_part(archive: zipfile.ZipFile, name: str, max_bytes: int = _MAX_TOTAL_BYTES) -> bytes:
    """Return at most `max_bytes` of a part. Raises `UnreadableDocument` when it is missing or damaged."""
    try:
        with archive.open(name) as part:
            return part.read(max_bytes)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise UnreadableDocument(f"its part {name} is missing or damaged") from error
