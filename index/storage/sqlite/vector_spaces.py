"""The vectors of chunks by embedder, and which embedder's space is searched. Only the indexer process writes them."""

import apsw
import msgspec

from index.embedded_text import embedded_text
from index.storage.records import ChunkToEmbed, VectorSpace
from index.storage.sqlite.database import execute, query, transaction
from index.storage.sqlite.properties import (
    delete_property,
    read_property,
    read_vector_space,
    write_property,
    write_vector_space,
)
from index.types import with_lead

_OTHERS = "other_spaces"  # property: vectors of spaces that are not searched may be left
HAS_NO_VECTOR = (
    "NOT EXISTS (SELECT 1 FROM vectors WHERE fingerprint = ?1 AND vectors.content_hash = chunks.content_hash)"
)


class SqliteVectorSpaces:
    """Uses the document store's connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def current(self) -> VectorSpace | None:
        return read_vector_space(self._db)

    def has_others(self) -> bool:
        return read_property(self._db, _OTHERS) is not None

    def has_vectors(self) -> bool:
        return query(self._db, "SELECT 1 FROM vectors LIMIT 1") != []

    def start(self, space: VectorSpace, *, is_current: bool, has_others: bool) -> None:
        with transaction(self._db):
            if has_others:
                write_property(self._db, _OTHERS, "")
            if is_current:
                write_vector_space(self._db, space)

    def switch_to(self, space: VectorSpace) -> None:
        with transaction(self._db):
            write_vector_space(self._db, space)

    def count_chunks(self) -> int:
        ((count,),) = query(self._db, "SELECT count(*) FROM chunks")
        return int(count)

    def count_chunks_without_vector(self, fingerprint: str) -> int:
        ((count,),) = query(self._db, f"SELECT count(*) FROM chunks WHERE {HAS_NO_VECTOR}", (fingerprint,))
        return int(count)

    def chunks_without_vector(self, fingerprint: str, after_id: int, limit: int) -> list[ChunkToEmbed]:
        rows = query(
            self._db,
            "SELECT id, content_hash, heading, lead, text FROM chunks"
            f" WHERE id > ?2 AND {HAS_NO_VECTOR} ORDER BY id LIMIT ?3",
            (fingerprint, after_id, limit),
        )
        return [
            ChunkToEmbed(
                id=id,
                content_hash=content_hash,
                text=embedded_text(msgspec.json.decode(heading, type=list[str]), with_lead(lead, text)),
            )
            for id, content_hash, heading, lead, text in rows
        ]

    def newest_vector_id(self) -> int:
        ((id,),) = query(self._db, "SELECT coalesce(max(id), 0) FROM vectors")
        return int(id)

    def remove_others(self, fingerprint: str, after_id: int, up_to_id: int) -> None:
        with transaction(self._db):
            execute(
                self._db,
                "DELETE FROM vectors WHERE id > ? AND id <= ? AND fingerprint != ?",
                (after_id, up_to_id, fingerprint),
            )

    def note_others_removed(self) -> None:
        delete_property(self._db, _OTHERS)
