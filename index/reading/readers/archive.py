"""The gate before formats that are ZIP archives: looks at the directory and at the head of each XML part."""

import io
import re
import zipfile

from index.errors import UnreadableDocument

_MAX_ENTRIES = 10_000
_MAX_TOTAL = 512 << 20  # bytes, unpacked
_MAX_RATIO = 100
_MODEST = 16 << 20  # bytes, unpacked; below it the ratio is no matter
_HEAD = 1 << 16  # bytes of an XML part in which a document type would stand
_XML = (".xml", ".rels", ".opf", ".ncx")
_DTD = re.compile(rb"<!(?:ENTITY|DOCTYPE[^>]*\[)")  # with declarations of its own


def open_archive(content: bytes) -> zipfile.ZipFile:
    """Checked: neither too many nor too large parts, no entity declarations. Raises `UnreadableDocument`."""
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
    if total > _MAX_TOTAL:
        raise UnreadableDocument(f"it unpacks to {total >> 20:,} MiB, more than {_MAX_TOTAL >> 20:,}")
    if total > max(_MODEST, _MAX_RATIO * len(content)):
        raise UnreadableDocument(f"it unpacks to more than {_MAX_RATIO} times its size")
    for entry in entries:
        if entry.flag_bits & 1:
            raise UnreadableDocument("it is encrypted")
        if entry.filename.lower().endswith(_XML) and _DTD.search(read_part(archive, entry.filename, _HEAD)):
            raise UnreadableDocument("its XML declares entities, which can unfold without end")
    return archive


def read_part(archive: zipfile.ZipFile, name: str, limit: int = _MAX_TOTAL) -> bytes:
    """At most `limit` bytes of a part. Raises `UnreadableDocument` when there is none or it is damaged."""
    try:
        with archive.open(name) as part:
            return part.read(limit)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise UnreadableDocument(f"its part {name} is missing or damaged") from error
