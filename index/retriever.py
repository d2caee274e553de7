"""A question to passages: dense and lexical search, fused. Reads what the indexer writes, and never writes.

Everything that touches SQLite or FAISS runs on one thread of the retriever's own, so the event loop never waits for a
search. Before each search the in-memory index catches up with the `changes` table: what was committed is found.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import apsw
import msgspec
import numpy as np

from index.database import open_reader, query
from index.documents import read_vectors
from index.errors import CollectionNotFound
from index.generations import read_newest
from index.lexical.search import LexicalSearch
from index.types import Passage, Vectors
from index.vectors import Ids, VectorIndex

_CANDIDATES = 100  # of each arm, at least
_DENSE_WEIGHT = 0.5  # convex combination; .4 to .6 measured alike (docs/architecture.md, Index)
_REPLAY = 10_000  # changes taken in at once

T = TypeVar("T")


class QueryEmbedder(Protocol):
    async def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


def vectors_folder(data: Path, fingerprint: str) -> Path:
    """Where the generations of a vector space lie."""
    return data / "vectors" / fingerprint


class Retriever:
    """Owns a reading connection and the in-memory index of one vector space."""

    def __init__(self, data: Path, fingerprint: str, dimension: int) -> None:
        self._data = data
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="retriever")
        self._db: apsw.Connection | None = None
        self._vectors = VectorIndex(dimension)
        self._lexical = LexicalSearch(data)
        self._seq = -1  # the newest change taken in; -1 before the first
        self._members: dict[tuple[int, ...], Ids] = {}  # chunk ids by scope, of `_seq`

    async def search(
        self, question: str, embedder: QueryEmbedder, k: int, collections: Sequence[str] | None = None
    ) -> list[Passage]:
        """The `k` best passages, best first, of these collections (None: of all). Raises `CollectionNotFound`."""
        scope = await self._run(self._scope, collections)
        vector = (await embedder.embed_queries([question]))[0]
        return await self._run(self._search, question, vector, k, scope)

    async def catch_up(self) -> None:
        await self._run(self._catch_up)
        await self._run(lambda: self._lexical.open(self._connection()))

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _connection(self) -> apsw.Connection:
        if self._db is None:
            self._db = open_reader(self._data)
        return self._db

    def _scope(self, names: Sequence[str] | None) -> list[int]:
        known = dict(query(self._connection(), "SELECT name, id FROM collections WHERE is_active"))
        for name in names or ():
            if name not in known:
                raise CollectionNotFound(name, sorted(known))
        return sorted(known[name] for name in (known if names is None else names))

    def _search(self, question: str, vector: Vectors, k: int, scope: list[int]) -> list[Passage]:
        self._catch_up()
        num_candidates = max(_CANDIDATES, 2 * k)
        allowed = self._allowed(tuple(scope))
        dense = self._vectors.search(vector, num_candidates, allowed)
        words = self._lexical.search(self._connection(), question, num_candidates, None if allowed is None else scope)
        best = fuse(dense, words)[: k + k]  # some may be gone by now
        cosines = dict(dense)
        passages = self._passages([id for id, _ in best])
        return [
            msgspec.structs.replace(passages[id], score=score, similarity=cosines.get(id))
            for id, score in best
            if id in passages
        ][:k]

    def _allowed(self, scope: tuple[int, ...]) -> Ids | None:
        """Chunks of these collections; None when they are all there are, and nothing needs to be left out."""
        if scope == tuple(id for (id,) in query(self._connection(), "SELECT id FROM collections ORDER BY id")):
            return None
        if (ids := self._members.get(scope)) is None:
            rows = query(
                self._connection(),
                "SELECT chunks.id FROM chunks JOIN documents ON documents.id = document_id"
                " WHERE collection_id IN (SELECT value FROM json_each(?))",
                (msgspec.json.encode(scope).decode(),),
            )
            ids = self._members[scope] = np.fromiter((row[0] for row in rows), np.int64)
        return ids

    def _catch_up(self) -> None:
        """Takes in the changes since the last one; from a generation, or from all vectors, when too far behind."""
        db = self._connection()
        while True:
            with db:  # one snapshot for the changes and their vectors
                bounds = query(db, "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM changes")
                ((oldest, newest),) = bounds
                if self._seq == newest:
                    return
                self._members.clear()
                if self._seq < max(oldest - 1, 0):
                    self._start_over(db, oldest, newest)
                    continue
                self._replay(db)

    def _start_over(self, db: apsw.Connection, oldest: int, newest: int) -> None:
        folder = vectors_folder(self._data, self._fingerprint)
        ((database,),) = query(db, "SELECT value FROM properties WHERE name = 'id'")
        generation = read_newest(folder, database, self._fingerprint, self._dimension)
        if generation is not None and oldest - 1 <= generation.header.seq <= newest:
            self._vectors = VectorIndex(self._dimension, generation.payload)
            self._seq = generation.header.seq
        else:
            self._vectors = VectorIndex(self._dimension)
            self._vectors.add(*read_vectors(db, self._fingerprint, self._dimension))
            self._seq = newest

    def _replay(self, db: apsw.Connection) -> None:
        rows = query(
            db, "SELECT seq, chunk_id, is_removal FROM changes WHERE seq > ? ORDER BY seq LIMIT ?", (self._seq, _REPLAY)
        )
        removed = {chunk_id for _, chunk_id, is_removal in rows if is_removal}
        added = [chunk_id for _, chunk_id, is_removal in rows if not is_removal and chunk_id not in removed]
        self._vectors.remove(removed)
        self._vectors.add(*read_vectors(db, self._fingerprint, self._dimension, added))
        self._seq = rows[-1][0]

    def _passages(self, chunk_ids: list[int]) -> dict[int, Passage]:
        rows = query(
            self._connection(),
            "SELECT chunks.id, documents.id, collections.name, path, heading, text, line_from, line_to"
            " FROM chunks JOIN documents ON documents.id = document_id"
            " JOIN collections ON collections.id = collection_id"
            " WHERE chunks.id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(chunk_ids).decode(),),
        )
        return {
            id: Passage(id, document_id, name, path, tuple(msgspec.json.decode(heading)), text, first, last, score=0.0)
            for id, document_id, name, path, heading, text, first, last in rows
        }

    def close(self) -> None:
        self._thread.submit(self._close_connection).result()
        self._thread.shutdown()

    def _close_connection(self) -> None:
        if self._db is not None:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fuse(dense: Sequence[tuple[int, float]], words: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Convex combination of min–max scaled scores (Bruch et al., arXiv 2210.11934); best first, scores in 0..1."""
    scores: dict[int, float] = {}
    for weight, hits in ((_DENSE_WEIGHT, dense), (1 - _DENSE_WEIGHT, words)):
        low = min((score for _, score in hits), default=0.0)
        width = max((score for _, score in hits), default=0.0) - low
        for id, score in hits:
            scores[id] = scores.get(id, 0.0) + weight * ((score - low) / width if width else 1.0)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
