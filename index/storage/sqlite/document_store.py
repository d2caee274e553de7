"""The SQL of the writer: collections, documents, chunks and vectors. Only the indexer process uses it.

A document's new state commits in one transaction, its chunks, vectors, full-text rows and `changes` with it: a reader
sees the old version or the new one.
"""

import time
from collections.abc import Iterable, Sequence

import apsw
import msgspec

from index.embedded_text import content_hash
from index.lexical import fts5
from index.lexical.analyzer import Analyzer
from index.lexical.rows import make_row
from index.storage.records import FileStat, KnownDocument
from index.storage.sqlite.database import execute, query, transaction
from index.types import Chunk, Collection, Vectors

_REMOVED = 500  # documents a transaction


class SqliteDocumentStore:
    """Owns the one writing connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._analyzer = Analyzer()

    @property
    def connection(self) -> apsw.Connection:
        return self._db

    def close(self) -> None:
        self._db.close()

    def configure(self, collections: Sequence[Collection]) -> dict[str, int]:
        """Makes these collections, and no others, active; their ids by name.

        What is no longer configured is hidden from search and kept, so that coming back costs nothing.
        """
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

    def known(self, collection_id: int, path: str | None = None) -> dict[str, KnownDocument]:
        """Documents by path; with `path`, that one and everything below it."""
        rows = query(
            self._db,
            "SELECT path, id, size, mtime_ns, ctime_ns, inode, sha256, state FROM documents WHERE collection_id = ?1"
            " AND (?2 IS NULL OR path = ?2 OR (path >= ?2 || '/' AND path < ?2 || '0'))",  # '0' follows '/'
            (collection_id, path),
        )
        return {
            path: KnownDocument(id, FileStat(size, mtime_ns, ctime_ns, inode), sha256, state)
            for path, id, size, mtime_ns, ctime_ns, inode, sha256, state in rows
        }

    def mark_pending(self, collection_id: int, files: Iterable[tuple[str, FileStat]]) -> None:
        """New or changed files that wait to be read; what was indexed of them stays findable meanwhile."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO documents (collection_id, path, size, mtime_ns, ctime_ns, inode, state)"
                " VALUES (?, ?, ?, ?, ?, ?, 'pending') ON CONFLICT DO UPDATE SET state = 'pending'",
                ((collection_id, path, *stat) for path, stat in files),
            )

    def retry_failed(self, collection_id: int, path: str | None = None) -> None:
        """Files that could not be read, or only this one of them, are pending again."""
        execute(
            self._db,
            "UPDATE documents SET state = 'pending'"
            " WHERE collection_id = ? AND state = 'failed' AND path = ifnull(?, path)",
            (collection_id, path),
        )

    def remove(self, collection_id: int, paths: Iterable[str]) -> None:
        left = list(paths)
        while left:
            some, left = left[:_REMOVED], left[_REMOVED:]
            with transaction(self._db):
                for path in some:
                    sql = "SELECT id FROM documents WHERE collection_id = ? AND path = ?"
                    for (document_id,) in query(self._db, sql, (collection_id, path)):
                        self._remove_chunks(document_id)
                        execute(self._db, "DELETE FROM documents WHERE id = ?", (document_id,))
                self._note_change(collection_id)

    def mark_unchanged(self, files: Iterable[tuple[int, str, FileStat]]) -> None:
        """These files of collections were touched, their content is what is indexed already."""
        with transaction(self._db):
            self._db.executemany(
                "UPDATE documents SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, state = 'indexed', error = NULL"
                " WHERE collection_id = ? AND path = ?",
                ((*stat, collection_id, path) for collection_id, path, stat in files),
            )

    def fail(self, collection_id: int, path: str, stat: FileStat, reason: str) -> None:
        """The file cannot be read: its old chunks go, a row with the reason stays."""
        with transaction(self._db):
            document_id = self._upsert(collection_id, path, stat, sha256=None, title=None, state="failed", error=reason)
            self._remove_chunks(document_id)
            self._note_change(collection_id)

    def database_id(self) -> str:
        """Random, made with the database: caches say which database they are of."""
        ((value,),) = query(self._db, "SELECT value FROM properties WHERE name = 'id'")
        return str(value)

    def invalidate_other_chunking(self, chunking: str) -> None:
        """All documents are pending when they were read or cut by another rule."""
        with transaction(self._db):
            before = query(self._db, "SELECT value FROM properties WHERE name = 'chunking'")
            if before != [(chunking,)]:
                execute(self._db, "UPDATE documents SET state = 'pending', sha256 = NULL")
                execute(self._db, "INSERT OR REPLACE INTO properties VALUES ('chunking', ?)", (chunking,))

    def forget_unused_vectors(self) -> None:
        """Of text that is in no document any more."""
        execute(self._db, "DELETE FROM vectors WHERE content_hash NOT IN (SELECT content_hash FROM chunks)")

    def invalidate_unembedded(self, fingerprint: str) -> None:
        """Documents with a chunk that has no vector in this space are pending: the embedder was another meanwhile."""
        execute(
            self._db,
            "UPDATE documents SET state = 'pending', sha256 = NULL WHERE id IN (SELECT document_id FROM chunks"
            " WHERE NOT EXISTS (SELECT 1 FROM vectors"
            " WHERE vectors.fingerprint = ? AND vectors.content_hash = chunks.content_hash))",
            (fingerprint,),
        )

    def missing_vectors(self, hashes: Iterable[bytes], fingerprint: str) -> set[bytes]:
        wanted = set(hashes)
        sql = "SELECT 1 FROM vectors WHERE fingerprint = ? AND content_hash = ?"
        return {h for h in wanted if not query(self._db, sql, (fingerprint, h))}

    def store_vectors(self, fingerprint: str, hashes: Sequence[bytes], vectors: Vectors) -> None:
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR IGNORE INTO vectors (content_hash, fingerprint, vector) VALUES (?, ?, ?)",
                ((h, fingerprint, v.astype("<f2").tobytes()) for h, v in zip(hashes, vectors, strict=True)),
            )

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
        """Commits a document's new version; every chunk's vector must be stored already. `note`: what of it could not
        be read."""
        with transaction(self._db):
            document_id = self._upsert(collection_id, path, stat, sha256, title, "indexed", error=None)
            execute(self._db, "UPDATE documents SET note = ? WHERE id = ?", (note, document_id))
            self._remove_chunks(document_id)
            ids = [self._insert_chunk(document_id, ordinal, chunk) for ordinal, chunk in enumerate(chunks)]
            if fts5.filling(self._db) is not None:
                fts5.add(
                    self._db,
                    (
                        make_row(self._analyzer, chunk_id, collection_id, path, chunk.heading, chunk.shown)
                        for chunk_id, chunk in zip(ids, chunks, strict=True)
                    ),
                )
            self._note_change(collection_id)

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
        ((document_id,),) = query(
            self._db,
            "INSERT INTO documents (collection_id, path, size, mtime_ns, ctime_ns, inode, sha256, title, state, error,"
            " indexed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET size = excluded.size,"
            " mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, inode = excluded.inode,"
            " sha256 = excluded.sha256, title = excluded.title,"
            " state = excluded.state, error = excluded.error, indexed_at = excluded.indexed_at RETURNING id",
            (collection_id, path, *stat, sha256, title, state, error, time.time()),
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
        old = (document_id,)
        fts5.remove_document(self._db, document_id)
        execute(
            self._db, "INSERT INTO changes (chunk_id, is_removal) SELECT id, 1 FROM chunks WHERE document_id = ?", old
        )
        execute(self._db, "DELETE FROM chunks WHERE document_id = ?", old)

    def _note_change(self, collection_id: int) -> None:
        execute(self._db, "UPDATE collections SET changed_at = ? WHERE id = ?", (time.time(), collection_id))

    def note_scan(self, collection_id: int, error: str | None, identity: str | None = None) -> None:
        """A full scan of a folder of this identity has ended, or could not be made because of `error`."""
        execute(
            self._db,
            "UPDATE collections SET scanned_at = ?, error = ?, identity = coalesce(?, identity) WHERE id = ?",
            (time.time(), error, identity, collection_id),
        )

    def identity(self, collection_id: int) -> str | None:
        """Of the folder that the last full scan saw."""
        ((found,),) = query(self._db, "SELECT identity FROM collections WHERE id = ?", (collection_id,))
        return None if found is None else str(found)

    def note_missing(self, collection_id: int, count: int) -> float:
        """So many documents are kept although their files are gone; for how many seconds, since that was first so."""
        now = time.time()
        ((since,),) = query(
            self._db,
            "UPDATE collections SET missing = ?1, missing_since = iif(?1, coalesce(missing_since, ?2), NULL)"
            " WHERE id = ?3 RETURNING missing_since",
            (count, now, collection_id),
        )
        return 0.0 if since is None else now - since

    def is_paused(self) -> bool:
        return query(self._db, "SELECT value FROM properties WHERE name = 'paused'") != []

    def pause(self, is_paused: bool) -> None:
        """Kept over restarts."""
        if is_paused:
            execute(self._db, "INSERT OR REPLACE INTO properties VALUES ('paused', '')")
        else:
            execute(self._db, "DELETE FROM properties WHERE name = 'paused'")

    def last_change(self) -> int:
        """`seq` of the newest change; 0 at the beginning."""
        ((seq,),) = query(self._db, "SELECT coalesce(max(seq), 0) FROM changes")
        return int(seq)

    def trim_changes(self, seq: int) -> None:
        """Forgets changes up to `seq`. A reader that is further behind starts again from the vectors."""
        execute(self._db, "DELETE FROM changes WHERE seq <= ? AND seq < (SELECT max(seq) FROM changes)", (seq,))
