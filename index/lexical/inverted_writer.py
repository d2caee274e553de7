"""Writes tantivy's index folder."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
import tantivy
from tantivy import Document

from index.errors import LexicalIndexError
from index.lexical.fill_progress import FillProgress
from index.lexical.inverted import COMMIT_ID, CommitInfo, InvertedIndex
from index.lexical.rows import Row
from index.lexical.tantivy_files import ENGINE, lexical_index_errors, new_schema, next_folder

_MEMORY = 40_000_000  # bytes, of one writing thread


class InvertedWriter:
    """The one writer of an index folder. Everything raises `LexicalIndexError`."""

    def __init__(self, folder: Path, database: str) -> None:
        self.index = InvertedIndex(folder, database)
        self._database = database
        with lexical_index_errors(folder):
            self._index = tantivy.Index.open(str(folder))
            self._writer = self._index.writer(heap_size=_MEMORY, num_threads=1)

    @classmethod
    def create(cls, parent: Path, database: str, filling: FillProgress, seq: int) -> "InvertedWriter":
        """Make an empty index in a new folder, as of the change `seq`."""
        folder = next_folder(parent)
        with lexical_index_errors(folder):
            folder.mkdir(parents=True)
            index = tantivy.Index(new_schema(), path=str(folder), reuse=False)
            writer = index.writer(heap_size=_MEMORY, num_threads=1)
            writer.add_document(_commit_document(CommitInfo(database, ENGINE, filling, seq, 0)))
            writer.commit()
            writer.wait_merging_threads()
        return cls(folder, database)

    @property
    def commit_info(self) -> CommitInfo:
        return self.index.commit_info

    def commit(self, added: Iterable[Row], removed: Iterable[int], filling: FillProgress, seq: int) -> None:
        """Add and remove chunks in one commit. Ids that are not in the index are ignored. After an error only `close`
        may be called."""
        with lexical_index_errors(self.index.folder):
            count = self.commit_info.count
            for chunk_id in removed:
                if self.index.has(chunk_id):
                    self._writer.delete_documents_by_term("chunk", chunk_id)
                    count -= 1
            for row in added:
                self._writer.add_document(_document(row))
                count += 1
            self._writer.delete_documents_by_term("chunk", COMMIT_ID)
            self._writer.add_document(_commit_document(CommitInfo(self._database, ENGINE, filling, seq, count)))
            self._writer.commit()
        self.index.refresh()
        self.index.write_sums()

    def verify(self) -> None:
        """Read and verify every file again."""
        InvertedIndex(self.index.folder, self._database)

    def close(self) -> None:
        """Wait for merges, and release the folder's lock."""
        with contextlib.suppress(LexicalIndexError), lexical_index_errors(self.index.folder):
            self._writer.wait_merging_threads()
            self.index.refresh()
            self.index.write_sums()


def _document(row: Row) -> Document:
    document = Document()
    document.add_integer("chunk", row.chunk_id)
    document.add_text("terms", row.terms)
    document.add_text("scope", row.scope)
    return document


def _commit_document(info: CommitInfo) -> Document:
    document = Document()
    document.add_integer("chunk", COMMIT_ID)
    document.add_text("mark", msgspec.json.encode(info).decode())
    return document
