"""From a file's bytes to canonical text and blocks. One module a format family; the suffix chooses.

A reader's module is imported when a file of its family is read, so that the processes that only ask what is readable
stay small. Files are not to be trusted: outside of tests they are read by way of `index.reading.sandbox`.
"""

import codecs
import importlib
from pathlib import PurePosixPath

from index.types import Parsed

VERSION = 3  # raised when a reader makes another text or other blocks of the same file: all documents are read again

_SUFFIXES = {
    "markdown": ".md .markdown .mdown",
    "text": ".txt .text",
    "rst": ".rst",
    "html": ".html .htm .xhtml",
    "pdf": ".pdf",
    "word": ".docx",
    "slides": ".pptx",
    "sheets": ".xlsx .xlsm .xls .ods",
    "epub": ".epub",
    "mail": ".eml .mbox",
    "notebook": ".ipynb",
    "delimited": ".csv .tsv .tab",
    "structured": ".json .jsonl .ndjson",
    "code": (
        ".py .pyi .js .mjs .cjs .jsx .ts .mts .cts .tsx .go .rs .java .c .h .cc .cpp .cxx .hh .hpp .hxx"
        " .cs .kt .kts .swift .scala .rb .php .pl .pm .lua .r .jl .dart .ex .exs .erl .hs .clj .ml .fs .vb .pas"
        " .sh .bash .zsh .fish .ps1 .bat .sql .graphql .proto .tf .cmake .gradle .groovy .nix .zig .vue .svelte"
        " .css .scss .less .tex .toml .yaml .yml .ini .cfg .conf .properties"
    ),
}
_READERS = {suffix: module for module, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_PLAIN = frozenset(["markdown", "text", "rst", "delimited", "structured"])
_CODECS = (
    "utf_16 utf_16_le utf_16_be utf_32 utf_32_le utf_32_be utf_8_sig ascii latin_1 cp1250 cp1251 cp1252 cp1253 cp1254"
    " cp1255 cp1256 cp1257 cp437 cp850 koi8_r koi8_u iso8859_2 iso8859_5 iso8859_9 iso8859_15 cp932 shift_jis euc_jp"
    " iso2022_jp gb18030 gbk gb2312 big5 cp949 euc_kr idna quopri_codec base64_codec"
)


def is_readable(path: str) -> bool:
    """Whether there is a reader for files of this name."""
    return PurePosixPath(path).suffix.lower() in _READERS


def is_plain(path: str) -> bool:
    """Whether its reader is Python throughout, and leaves nothing behind that the next file could be harmed by."""
    return _READERS[PurePosixPath(path).suffix.lower()] in _PLAIN


def read(path: str, content: bytes) -> Parsed:
    """Raises `UnreadableDocument` with a reason for a person, and whatever a parser raises that trips over a file."""
    suffix = PurePosixPath(path).suffix.lower()
    parsed: Parsed = importlib.import_module(f"index.reading.readers.{_READERS[suffix]}").read(content, suffix)
    return parsed


def import_all() -> None:
    """Every reader, and the text encodings files are likely to have: after this, reading opens no files."""
    for module in _SUFFIXES:
        importlib.import_module(f"index.reading.readers.{module}")
    for name in _CODECS.split():
        codecs.lookup(name)
