"""The engine of a large corpus: tantivy, a cache on disk of which SQLite is the truth.

tantivy's files are written once and replaced as a whole by a new `meta.json`. Each commit carries a mark, a document of
its own: what database and analyzer it is of, the newest change in it and how many chunks. So there is no moment at
which files and mark disagree. tantivy verifies nothing when it opens; here every file is compared with the checksum in
its footer, once, and `meta.json` with the schema and the mark. The writer also notes which checksum each file has, so
that a whole file in the place of another is noticed too.
"""

import contextlib
import re
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tantivy
from tantivy import Document, Occur, Query

from index.errors import LexicalIndexError
from index.lexical.filling import Filling
from index.lexical.languages import LATIN
from index.lexical.rows import Row, collection_term, language_term
from index.types import Ids

_ENGINE = str(vars(tantivy)["__version__"])  # with the number of its file format; its type stubs lack it
_META = "meta.json"
_SUMS = "sums.json"  # CRC-32 by file; without it, or of a file it lacks, the footer alone is believed
_FOOTER = struct.Struct("<II")  # length of the footer's JSON, magic number
_MAGIC = 1337
_BLOCK = 1 << 20  # bytes
_MARK_ID = 0  # chunks count from 1
_MEMORY = 40_000_000  # bytes, of one writing thread
_NUMBER = re.compile(r"[0-9]{8}")
_KINDS = frozenset(("fast", "fieldnorm", "idx", "pos", "store", "term"))  # of every segment
_FEW = 10_000  # chunk ids that a query may name
_DEEPER = 8  # times as far down as before
_ATTEMPTS = 5  # at a folder that changes while it is read


class Mark(msgspec.Struct, frozen=True):
    """What a commit is of."""

    database: str
    engine: str  # tantivy's version: files of another one are not read
    filling: Filling
    seq: int  # the newest change it contains
    count: int  # chunks


class _Deletes(msgspec.Struct, forbid_unknown_fields=True):
    num_deleted_docs: int
    opstamp: int


class _Segment(msgspec.Struct, forbid_unknown_fields=True):
    segment_id: str
    max_doc: int
    deletes: _Deletes | None = None


class _Meta(msgspec.Struct, forbid_unknown_fields=True):
    """tantivy's meta.json."""

    index_settings: Any
    segments: list[_Segment]
    schema: Any
    opstamp: int
    payload: str | None = None


def schema() -> tantivy.Schema:
    """Integers, not unsigned ones: tantivy's Python binding deletes by signed terms only."""
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("chunk", indexed=True, fast=True)
    builder.add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field("scope", tokenizer_name="whitespace", index_option="basic")
    builder.add_text_field("mark", stored=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


@contextlib.contextmanager
def _speaking_of(folder: Path) -> Iterator[None]:
    """tantivy's errors, its panics too, as `LexicalIndexError`."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, msgspec.MsgspecError) as error:
        raise LexicalIndexError(folder, str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3's, which cannot be imported
            raise
        raise LexicalIndexError(folder, str(error)) from error


def newest_folder(parent: Path) -> Path | None:
    return max((path for path in parent.glob("*") if _NUMBER.fullmatch(path.name)), default=None)


def remove_folders(parent: Path, keep: Path | None = None) -> None:
    """What another process has open stays readable there; what cannot be removed now is the next time."""
    for path in parent.glob("*"):
        if _NUMBER.fullmatch(path.name) and path != keep:
            shutil.rmtree(path, ignore_errors=True)


class InvertedIndex:
    """One index folder, read. `refresh` follows what its writer commits. Raises `LexicalIndexError` throughout."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self._database = database
        self._verified: dict[str, int] = {}  # CRC-32 by file
        self._seen: tuple[int, int, int] | None = None  # of meta.json
        with _speaking_of(folder):
            self._schema = schema()
            _read_meta(folder)  # before tantivy does: it is not made for hostile files
            self._verify()
            self._index = tantivy.Index.open(str(folder))
            self._index.config_reader(reload_policy="manual")
        self.refresh()

    def refresh(self) -> None:
        """Takes in the newest commit. Cheap when there is none."""
        with _speaking_of(self.folder):
            for _ in range(_ATTEMPTS):
                before = _identity(self.folder)
                if before == self._seen:
                    return
                meta = self._verify()
                self._index.reload()
                if _identity(self.folder) == before:
                    break
            else:
                return  # a busy writer: the next question sees it
            self._searcher = self._index.searcher()
            self.mark = self._read_mark()
            self._check(meta)
            self._languages = [x for x in LATIN if self._searcher.doc_freq("scope", language_term(x))]
            self._seen = before

    def _verify(self) -> _Meta:
        """Compares the files of the newest commit with their checksums, those not yet compared."""
        for attempt in range(_ATTEMPTS):
            meta = _read_meta(self.folder)
            needed = _files_of(meta)
            try:
                noted = _noted_sums(self.folder) if needed - self._verified.keys() else {}
                for name in sorted(needed - self._verified.keys()):
                    crc = _verified_crc(self.folder / name)
                    if noted.get(name, crc) != crc:
                        raise ValueError(f"{name} is another file")
                    self._verified[name] = crc
            except FileNotFoundError:
                if attempt + 1 == _ATTEMPTS or _read_meta(self.folder) == meta:
                    raise
                continue  # merged away meanwhile
            self._verified = {name: self._verified[name] for name in needed}
            return meta
        raise LexicalIndexError(self.folder, "it changes faster than it can be read")

    def _read_mark(self) -> Mark:
        hits = self._searcher.search(Query.term_query(self._schema, "chunk", _MARK_ID), 2, count=False).hits
        if len(hits) != 1:
            raise LexicalIndexError(self.folder, "it has no mark")
        return msgspec.json.decode(self._searcher.doc(hits[0][1])["mark"][0], type=Mark)

    def _check(self, meta: _Meta) -> None:
        mark, num_docs = self.mark, self._searcher.num_docs
        if (mark.database, mark.engine) != (self._database, _ENGINE):
            raise LexicalIndexError(self.folder, "it is of another database or of another version of tantivy")
        counted = sum(s.max_doc - (s.deletes.num_deleted_docs if s.deletes else 0) for s in meta.segments)
        if not mark.count + 1 == num_docs == counted:
            raise LexicalIndexError(self.folder, f"{num_docs - 1} chunks are in it where {mark.count} should be")

    def note_sums(self) -> None:
        """Of all files that were compared. Only the writer does: there is one."""
        temporary = self.folder / f"{_SUMS}.tmp"
        with _speaking_of(self.folder):
            temporary.write_bytes(msgspec.json.encode(self._verified))
            temporary.replace(self.folder / _SUMS)

    def has(self, chunk_id: int) -> bool:
        with _speaking_of(self.folder):
            return bool(self._searcher.doc_freq("chunk", chunk_id))

    def languages(self) -> list[str]:
        """The Latin languages that chunks are in."""
        return self._languages

    def search(
        self, terms: Counter[str], k: int, collection_ids: Sequence[int] | None, only: Ids | None = None
    ) -> list[tuple[int, float]]:
        """The `k` best chunks, of these collections or of all, and among the ids in `only` when given, as (id, BM25),
        best first; larger is better."""
        if not terms or (collection_ids is not None and not collection_ids):
            return []
        with _speaking_of(self.folder):
            wanted = self._query(terms, collection_ids)
            if only is None:
                return self._hits(wanted, k)
            if len(only) <= _FEW:
                return self._hits(self._among(only, wanted), k)
            return self._passing(wanted, k, only)

    def _hits(self, wanted: Query, k: int) -> list[tuple[int, float]]:
        hits = self._searcher.search(wanted, k, count=False).hits
        ids = self._searcher.fast_field_values("chunk", [address for _, address in hits])
        return [(int(id), float(score)) for (score, _), id in zip(hits, ids, strict=True) if id is not None]

    def _among(self, only: Ids, wanted: Query) -> Query:
        chosen = Query.term_set_query(self._schema, "chunk", only.tolist())
        return Query.boolean_query([(Occur.Must, Query.const_score_query(chosen, 0.0)), (Occur.Must, wanted)])

    def _passing(self, wanted: Query, k: int, only: Ids) -> list[tuple[int, float]]:
        """From ever longer lists: many ids are faster looked up among the best than told to tantivy one by one."""
        depth = k
        while True:
            depth *= _DEEPER
            hits = self._hits(wanted, depth)
            chosen = np.isin(np.array([id for id, _ in hits], np.int64), only)
            if len(hits) < depth or chosen.sum() >= k:
                return [hit for hit, is_chosen in zip(hits, chosen, strict=True) if is_chosen][:k]

    def _query(self, terms: Counter[str], collection_ids: Sequence[int] | None) -> Query:
        words = [
            (Occur.Should, Query.boost_query(Query.term_query(self._schema, "terms", term, "freq"), float(times)))
            for term, times in terms.items()
        ]
        if collection_ids is None:
            return Query.boolean_query(words)  # terms only: tantivy skips what cannot be among the best
        scope = Query.term_set_query(self._schema, "scope", [collection_term(id) for id in collection_ids])
        return Query.boolean_query(
            [(Occur.Must, Query.const_score_query(scope, 0.0)), (Occur.Must, Query.boolean_query(words))]
        )


class InvertedWriter:
    """The one writer of an index folder. Raises `LexicalIndexError` throughout."""

    def __init__(self, folder: Path, database: str) -> None:
        self.index = InvertedIndex(folder, database)
        self._database = database
        with _speaking_of(folder):
            self._index = tantivy.Index.open(str(folder))
            self._writer = self._index.writer(heap_size=_MEMORY, num_threads=1)

    @classmethod
    def create(cls, parent: Path, database: str, filling: Filling, seq: int) -> "InvertedWriter":
        """An empty index in a new folder, of this change; chunks are to be filled in."""
        newest = newest_folder(parent)
        folder = parent / f"{1 + int(newest.name) if newest else 1:08d}"
        with _speaking_of(folder):
            folder.mkdir(parents=True)
            index = tantivy.Index(schema(), path=str(folder), reuse=False)
            writer = index.writer(heap_size=_MEMORY, num_threads=1)
            writer.add_document(_mark_document(Mark(database, _ENGINE, filling, seq, 0)))
            writer.commit()
            writer.wait_merging_threads()
        return cls(folder, database)

    @property
    def mark(self) -> Mark:
        return self.index.mark

    def commit(self, added: Iterable[Row], removed: Iterable[int], filling: Filling, seq: int) -> None:
        """All of it or nothing. Removing chunks that are not in does nothing. After an error only `close` is left."""
        with _speaking_of(self.index.folder):
            count = self.mark.count
            for chunk_id in removed:
                if self.index.has(chunk_id):
                    self._writer.delete_documents_by_term("chunk", chunk_id)
                    count -= 1
            for row in added:
                self._writer.add_document(_document(row))
                count += 1
            self._writer.delete_documents_by_term("chunk", _MARK_ID)
            mark = Mark(self._database, _ENGINE, filling, seq, count)
            self._writer.add_document(_mark_document(mark))
            self._writer.commit()
        self.index.refresh()
        self.index.note_sums()

    def verify(self) -> None:
        """Reads every file again."""
        InvertedIndex(self.index.folder, self._database)

    def close(self) -> None:
        """Waits for merges, and gives up the folder's lock."""
        with contextlib.suppress(LexicalIndexError), _speaking_of(self.index.folder):
            self._writer.wait_merging_threads()
            self.index.refresh()
            self.index.note_sums()


def _document(row: Row) -> Document:
    document = Document()
    document.add_integer("chunk", row.chunk_id)
    document.add_text("terms", row.terms)
    document.add_text("scope", row.scope)
    return document


def _mark_document(mark: Mark) -> Document:
    document = Document()
    document.add_integer("chunk", _MARK_ID)
    document.add_text("mark", msgspec.json.encode(mark).decode())
    return document


def _identity(folder: Path) -> tuple[int, int, int]:
    found = (folder / _META).stat()  # replaced as a whole by each commit and merge
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_meta(folder: Path) -> _Meta:
    """Raises `ValueError` for anything but what this version writes."""
    meta = msgspec.json.decode((folder / _META).read_bytes(), type=_Meta)
    if (meta.index_settings, meta.schema) != _expected():
        raise ValueError("its schema is another one")
    if any(segment.deletes and segment.deletes.opstamp > meta.opstamp for segment in meta.segments):
        raise ValueError("its operations are out of order")
    return meta


def _expected() -> tuple[Any, Any]:
    """Index settings and schema as meta.json has them."""

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


def _files_of(meta: _Meta) -> set[str]:
    names = set()
    for segment in meta.segments:
        stem = segment.segment_id.replace("-", "")
        names |= {f"{stem}.{kind}" for kind in _KINDS}
        if segment.deletes:
            names.add(f"{stem}.{segment.deletes.opstamp}.del")
    return names


def _noted_sums(folder: Path) -> dict[str, int]:
    """Not synced, so it may be anything after the power went."""
    try:
        return msgspec.json.decode((folder / _SUMS).read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _verified_crc(path: Path) -> int:
    """Of a file, once it was compared with the checksum in its footer. Raises `ValueError`."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _FOOTER.size, 0))
        length, _ = _FOOTER.unpack(file.read().rjust(_FOOTER.size, b"\0"))
        left = size - _FOOTER.size - length
        file.seek(0)
        crc = 0
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
        footer = _footer(crc)
        if left or file.read() != footer + _FOOTER.pack(len(footer), _MAGIC):
            raise ValueError(f"{path.name} is damaged")
    return crc


def _footer(crc: int) -> bytes:
    major, minor, patch, index_format = re.findall(r"\d+", _ENGINE)
    return (
        f'{{"version":{{"major":{major},"minor":{minor},"patch":{patch},"index_format_version":{index_format}}},'
        f'"crc":{crc}}}'
    ).encode()
