"""The `DocumentStore` over the index's SQLite file: collections, documents, chunks, vectors and the change log.

A document's new version commits in one transaction, with its chunks, its rows of the lexical index and its changes: a
reader sees the old version or the new one.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import apsw
import msgspec

from index.embedded_text import content_hash
from index.storage.base import LexicalIndex
from index.storage.records import FileStat, KnownDocument
from index.storage.sqlite.database import execute, query, transaction
from index.storage.sqlite.properties import (
    database_id,
    delete_property,
    read_property,
    write_property,
)
from index.storage.sqlite.vector_spaces import HAS_NO_VECTOR, SqliteVectorSpaces
from index.storage.vectors import STORED_TYPE
from index.types import Chunk, Collection, Vectors

_REMOVED = 500  # documents a transaction
_PAUSED, _CHUNKING = "paused", "chunking"  # properties


class TransactionalIndex(Protocol):
    """An index whose rows lie in the same database and change in the documents' transactions."""

    def add(self, db: apsw.Connection, collection_id: int, path: str, chunks: Mapping[int, Chunk]) -> None:
        """Add a document's chunks, by their ids."""
        ...

    def remove_document(self, db: apsw.Connection, document_id: int) -> None:
        """Remove a document's chunks, which are still in the table."""
        ...


class SqliteDocumentStore:
    """Owns the one writing connection and the lexical index, and keeps `words` equal to the chunks."""

    def __init__(self, connection: apsw.Connection, words: TransactionalIndex, lexical_index: LexicalIndex) -> None:
        self._db = connection
        self._words = words
        self._lexical_index = lexical_index

    @property
    def connection(self) -> apsw.Connection:
        """Return the connection, for what else is written into this database."""
        return self._db

    def close(self) -> None:
        self._lexical_index.close()
        self._db.close()

    @property
    def lexical_index(self) -> LexicalIndex:
        return self._lexical_index

    @property
    def vector_spaces(self) -> SqliteVectorSpaces:
        return SqliteVectorSpaces(self._db)

    def database_id(self) -> str:
        return database_id(self._db)

    # Collections

    def configure(self, collections: Sequence[Collection]) -> dict[str, int]:
        with transaction(self._db):
            execute(self._db, "UPDATE collections SET is_active = 0")
            for collection in collections:
                execute(
                    self._db,
                    "INSERT INTO collections (name, root, is_active) VALUES (?, ?, 1)"
                    " ON CONFLICT (name) DO UPDATE SET identity = iif(root = excluded.root, identity, NULL),"
                    " root = excluded.root, is_active = 1, error = NULL, scanned_at = NULL",
                    (collection.name, str(collection.root)),
                )
            return dict(query(self._db, "SELECT name, id FROM collections WHERE is_active"))

    def record_scan(self, collection_id: int, error: str | None, identity: str | None = None) -> None:
        execute(
            self._db,
            "UPDATE collections SET scanned_at = ?, error = ?, identity = coalesce(?, identity) WHERE id = ?",
            (time.time(), error, identity, collection_id),
        )

    def identity(self, collection_id: int) -> str | None:
        ((identity,),) = query(self._db, "SELECT identity FROM collections WHERE id = ?", (collection_id,))
        return None if identity is None else str(identity)

    def record_missing(self, collection_id: int, count: int) -> float:
        now = time.time()
        ((since,),) = query(
            self._db,
            "UPDATE collections SET missing = ?1, missing_since = iif(?1, coalesce(missing_since, ?2), NULL)"
            " WHERE id = ?3 RETURNING missing_since",
            (count, now, collection_id),
        )
        return 0.0 if since is None else now - since

    def is_paused(self) -> bool:
        return read_property(self._db, _PAUSED) is not None

    def pause(self, is_paused: bool) -> None:
        if is_paused:
            write_property(self._db, _PAUSED, "")
        else:
            delete_property(self._db, _PAUSED)

    # Documents

    def known_documents(self, collection_id: int, path: str | None = None) -> dict[str, KnownDocument]:
        rows = query(
            self._db,
            "SELECT path, id, size, mtime_ns, ctime_ns, inode, sha256, state FROM documents WHERE collection_id = ?1"
            " AND (?2 IS NULL OR path = ?2 OR (path >= ?2 || '/' AND path < ?2 || '0'))",  # '0' follows '/'
            (collection_id, path),
        )
        return {
            path: KnownDocument(
                id=id,
                stat=FileStat(size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns, inode=inode),
                sha256=sha256,
                state=state,
            )
            for path, id, size, mtime_ns, ctime_ns, inode, sha256, state in rows
        }

    def mark_pending(self, collection_id: int, files: Iterable[tuple[str, FileStat]]) -> None:
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO documents (collection_id, path, size, mtime_ns, ctime_ns, inode, state)"
                " VALUES (?, ?, ?, ?, ?, ?, 'pending') ON CONFLICT DO UPDATE SET state = 'pending'",
                ((collection_id, path, stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode) for path, stat in files),
            )

    def mark_unchanged(self, files: Iterable[tuple[int, str, FileStat]]) -> None:
        with transaction(self._db):
            self._db.executemany(
                "UPDATE documents SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, state = 'indexed', error = NULL"
                " WHERE collection_id = ? AND path = ?",
                (
                    (stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, collection_id, path)
                    for collection_id, path, stat in files
                ),
            )

    def retry_failed(self, collection_id: int, path: str | None = None) -> None:
        execute(
            self._db,
            "UPDATE documents SET state = 'pending'"
            " WHERE collection_id = ? AND state = 'failed' AND path = ifnull(?, path)",
            (collection_id, path),
        )

    def remove(self, collection_id: int, paths: Iterable[str]) -> None:
        remaining = list(paths)
        while remaining:
            group, remaining = remaining[:_REMOVED], remaining[_REMOVED:]
            with transaction(self._db):
                for path in group:
                    sql = "SELECT id FROM documents WHERE collection_id = ? AND path = ?"
                    for (document_id,) in query(self._db, sql, (collection_id, path)):
                        self._remove_chunks(document_id)
                        execute(self._db, "DELETE FROM documents WHERE id = ?", (document_id,))
                self._record_change(collection_id)

    def fail(self, collection_id: int, path: str, stat: FileStat, reason: str) -> None:
        with transaction(self._db):
            document_id = self._upsert(collection_id, path, stat, sha256=None, title=None, state="failed", error=reason)
            self._remove_chunks(document_id)
            self._record_change(collection_id)

    def replace(
        self,
        collection_id: int,
        path: str,
        stat: FileStat,
        sha256: str,
        title: str | None,
        chunks: Sequence[Chunk],
        note: str | None = None,
    ) -> None:
        with transaction(self._db):
            document_id = self._upsert(collection_id, path, stat, sha256, title, "indexed", error=None)
            execute(self._db, "UPDATE documents SET note = ? WHERE id = ?", (note, document_id))
            self._remove_chunks(document_id)
            ids = [self._insert_chunk(document_id, ordinal, chunk) for ordinal, chunk in enumerate(chunks)]
            self._words.add(self._db, collection_id, path, dict(zip(ids, chunks, strict=True)))
            self._record_change(collection_id)

    def _upsert(
        self,
        collection_id: int,
        path: str,
        stat: FileStat,
        sha256: str | None,
        title: str | None,
        state: str,
        error: str | None,
    ) -> int:
        values = (collection_id, path, stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode)
        ((document_id,),) = query(
            self._db,
            "INSERT INTO documents (collection_id, path, size, mtime_ns, ctime_ns, inode, sha256, title, state, error,"
            " indexed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET size = excluded.size,"
            " mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, inode = excluded.inode,"
            " sha256 = excluded.sha256, title = excluded.title,"
            " state = excluded.state, error = excluded.error, indexed_at = excluded.indexed_at RETURNING id",
            (*values, sha256, title, state, error, time.time()),
        )
        return int(document_id)

    def _insert_chunk(self, document_id: int, ordinal: int, chunk: Chunk) -> int:
        ((chunk_id,),) = query(
            self._db,
            "INSERT INTO chunks (document_id, ordinal, text, heading, char_from, char_to, line_from, line_to,"
            " content_hash, place, lead) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                document_id,
                ordinal,
                chunk.text,
                msgspec.json.encode(chunk.heading).decode(),
                chunk.start,
                chunk.end,
                chunk.line_from,
                chunk.line_to,
                content_hash(chunk),
                None if chunk.place is None else msgspec.json.encode(chunk.place).decode(),
                chunk.lead,
            ),
        )
        execute(self._db, "INSERT INTO changes (chunk_id, is_removal) VALUES (?, 0)", (chunk_id,))
        return int(chunk_id)

    def _remove_chunks(self, document_id: int) -> None:
        self._words.remove_document(self._db, document_id)
        log = "INSERT INTO changes (chunk_id, is_removal) SELECT id, 1 FROM chunks WHERE document_id = ?"
        execute(self._db, log, (document_id,))
        execute(self._db, "DELETE FROM chunks WHERE document_id = ?", (document_id,))

    def _record_change(self, collection_id: int) -> None:
        execute(self._db, "UPDATE collections SET changed_at = ? WHERE id = ?", (time.time(), collection_id))

    def invalidate_other_chunking(self, chunking: str) -> None:
        with transaction(self._db):
            if read_property(self._db, _CHUNKING) != chunking:
                execute(self._db, "UPDATE documents SET state = 'pending', sha256 = NULL")
                write_property(self._db, _CHUNKING, chunking)

    def invalidate_unembedded(self, fingerprint: str) -> None:
        execute(
            self._db,
            "UPDATE documents SET state = 'pending', sha256 = NULL"
            f" WHERE id IN (SELECT document_id FROM chunks WHERE {HAS_NO_VECTOR})",
            (fingerprint,),
        )

    # Vectors

    def missing_vectors(self, hashes: Iterable[bytes], fingerprint: str) -> set[bytes]:
        sql = "SELECT 1 FROM vectors WHERE fingerprint = ? AND content_hash = ?"
        return {hash for hash in set(hashes) if not query(self._db, sql, (fingerprint, hash))}

    def store_vectors(self, fingerprint: str, hashes: Sequence[bytes], vectors: Vectors) -> None:
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR IGNORE INTO vectors (content_hash, fingerprint, vector) VALUES (?, ?, ?)",
                (
                    (hash, fingerprint, vector.astype(STORED_TYPE).tobytes())
                    for hash, vector in zip(hashes, vectors, strict=True)
                ),
            )

    def delete_unused_vectors(self) -> None:
        execute(self._db, "DELETE FROM vectors WHERE content_hash NOT IN (SELECT content_hash FROM chunks)")

    # The change log

    def last_change(self) -> int:
        ((seq,),) = query(self._db, "SELECT coalesce(max(seq), 0) FROM changes")
        return int(seq)

    def trim_changes(self, seq: int) -> None:
        execute(self._db, "DELETE FROM changes WHERE seq <= ? AND seq < (SELECT max(seq) FROM changes)", (seq,))
