"""Choose the reader of a file by its suffix.

A reader's module is imported when the first file of its format is read, so that processes that only ask what is
readable stay small. Files are not to be trusted: outside of tests they are read through `index.reading.sandbox`.
"""

import codecs
import importlib
from pathlib import PurePosixPath
from typing import cast

from index.reading.base import FileFormat, FileReader
from index.types import ParsedDocument

VERSION = 3  # raise it when a reader makes other text or blocks of the same file: all documents are read again

FORMATS = (
    FileFormat("markdown", ".md .markdown .mdown", is_plain=True),
    FileFormat("text", ".txt .text", is_plain=True),
    FileFormat("rst", ".rst", is_plain=True),
    FileFormat("html", ".html .htm .xhtml"),
    FileFormat("pdf", ".pdf", num_descriptors=32),  # its native library opens itself, an event loop and fonts
    FileFormat("word", ".docx"),
    FileFormat("slides", ".pptx"),
    FileFormat("sheets", ".xlsx .xlsm .xls .ods"),
    FileFormat("epub", ".epub"),
    FileFormat("mail", ".eml .mbox"),
    FileFormat("notebook", ".ipynb"),
    FileFormat("delimited", ".csv .tsv .tab", is_plain=True),
    FileFormat("structured", ".json .jsonl .ndjson", is_plain=True),
    FileFormat(
        "code",
        ".py .pyi .js .mjs .cjs .jsx .ts .mts .cts .tsx .go .rs .java .c .h .cc .cpp .cxx .hh .hpp .hxx"
        " .cs .kt .kts .swift .scala .rb .php .pl .pm .lua .r .jl .dart .ex .exs .erl .hs .clj .ml .fs .vb .pas"
        " .sh .bash .zsh .fish .ps1 .bat .sql .graphql .proto .tf .cmake .gradle .groovy .nix .zig .vue .svelte"
        " .css .scss .less .tex .toml .yaml .yml .ini .cfg .conf .properties",
    ),
)
_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes.split()}
_CODECS = (
    "utf_16 utf_16_le utf_16_be utf_32 utf_32_le utf_32_be utf_8_sig ascii latin_1 cp1250 cp1251 cp1252 cp1253 cp1254"
    " cp1255 cp1256 cp1257 cp437 cp850 koi8_r koi8_u iso8859_2 iso8859_5 iso8859_9 iso8859_15 cp932 shift_jis euc_jp"
    " iso2022_jp gb18030 gbk gb2312 big5 cp949 euc_kr idna quopri_codec base64_codec"
)


def is_readable(path: str) -> bool:
    """Return whether there is a reader for files of this name."""
    return _suffix(path) in _BY_SUFFIX


def format_of(path: str) -> FileFormat:
    """Return the format of a readable file."""
    return _BY_SUFFIX[_suffix(path)]


def read(path: str, content: bytes) -> ParsedDocument:
    """Read a file whose name is readable. Raises `UnreadableDocument`, or whatever a parser raises for a bad file."""
    return load_reader(format_of(path)).read(content, _suffix(path))


def load_reader(format: FileFormat) -> FileReader:
    return cast(FileReader, importlib.import_module(f"index.reading.readers.{format.module}"))


def import_all() -> None:
    """Import every reader, and the text encodings that files are likely to have: reading opens no files after this."""
    for format in FORMATS:
        load_reader(format)
    for name in _CODECS.split():
        codecs.lookup(name)


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
