"""A question, put in one way or several, to passages: dense and lexical search, fused. Reads what the indexer writes,
and never writes.

Everything that touches SQLite or FAISS runs on one thread of the retriever's own, so the event loop never waits for a
search. Before each search the in-memory index catches up with the `changes` table: what was committed is found.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from math import fsum
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import apsw
import msgspec

from index.dense.compaction import is_stale, vectors_folder
from index.dense.generations import newest_header, read_newest
from index.dense.vector_index import Ids, VectorIndex
from index.errors import CollectionNotFound
from index.lexical.search import LexicalSearch
from index.params import DENSE_WEIGHT
from index.search.calibration import QUESTIONS, NullDistribution
from index.search.deduplication import DeduplicatedPassages, deduplicate
from index.search.explain import Explanation, IndexedFile, Outcome, Ranks, explained, look_up
from index.search.filters import Selections
from index.storage.sqlite.catalog import decode_place
from index.storage.sqlite.database import open_reader, query, snapshot
from index.storage.sqlite.vectors import VectorStore
from index.types import Evidence, FileSubset, Filters, Passage, Query, Reranker, Vectors, is_managed

_CANDIDATES = 100  # of each arm, at least
_EXPLAINED = 10_000  # candidates of each arm, to tell how far down a file is
_REPLAY = 10_000  # changes taken in at once
# Two look-ups; both in one SELECT would read the whole table.
_BOUNDS = "SELECT coalesce((SELECT min(seq) FROM changes), 0), coalesce((SELECT max(seq) FROM changes), 0)"
_RERANKED = 30  # passages at most; beyond, rerankers lose quality and time
_SPARE = 3  # times as many passages are looked at as are asked for: some are gone, some say the same

Hits = list[tuple[int, float]]  # chunk id and score, best first
T = TypeVar("T")


class Scope(NamedTuple):
    """Where is searched: in these collections (None: all), and among these chunks when there are filters."""

    collections: list[int] | None
    only: Ids | None


class QueryEmbedder(Protocol):
    async def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


class Retriever:
    """Owns a reading connection and the in-memory index of one vector space. `note` is told how long each stage of a
    search took, in seconds, from whichever thread it ran on."""

    def __init__(
        self,
        data: Path,
        fingerprint: str,
        dimension: int,
        reranker: Reranker | None = None,
        dense_weight: float = DENSE_WEIGHT,
        note: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        self._note = note
        self._data = data
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._reranker = reranker
        self._dense_weight = dense_weight
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="retriever")
        self._dense_thread = ThreadPoolExecutor(1, thread_name_prefix="dense")  # beside the words; touches no SQLite
        self._db: apsw.Connection | None = None
        self._vectors = VectorIndex(dimension)
        self._lexical = LexicalSearch(data)
        self._selections = Selections()
        self._unrelated: Vectors | None = None  # the background's questions, once a question has been embedded
        self._seq = -1  # the newest change taken in; -1 before the first
        self._base_seq = -1  # the newest change in the base

    async def search(
        self,
        queries: Sequence[Query],
        embedder: QueryEmbedder,
        k: int,
        collections: Sequence[str] | None = None,
        filters: Filters | None = None,
        chosen: Sequence[FileSubset] = (),
    ) -> list[Passage]:
        """The `k` best passages, best first, for one question put in these ways; of these collections (None: of all
        that are watched), of those in `chosen` only the files named there, from files that pass. A query of weight 0
        is not searched. Raises `CollectionNotFound`, `InvalidFilter`."""
        with self._timed("all"):
            scope = await self._run(self._scope, collections, filters, chosen)
            asked = [query for query in queries if query.weight > 0]
            if not asked or (scope.only is not None and not len(scope.only)):
                return []
            return (await self._find(asked, await self._embedded(asked, embedder), k, scope)).kept

    async def explain(
        self,
        queries: Sequence[Query],
        embedder: QueryEmbedder,
        k: int,
        expected: tuple[str | None, str],
        collections: Sequence[str] | None = None,
        filters: Filters | None = None,
        known: Sequence[str] | None = None,
    ) -> list[Explanation]:
        """What became in such a search of a file, a collection (None: any) and the path in it; for every collection
        that has one, of those `known` to whoever asks (None: all). Takes longer than a search."""
        scope = await self._run(self._scope, collections, filters)
        asked = [query for query in queries if query.weight > 0]
        vectors = await self._embedded(asked, embedder)
        thinned = await self._find(asked, vectors, k, scope)
        files = await self._run(lambda: look_up(self._connection(), *expected, known))
        return await self._run(self._explained, asked, vectors, scope, files, thinned)

    async def _find(self, queries: Sequence[Query], vectors: Vectors, k: int, scope: Scope) -> DeduplicatedPassages:
        found = await self._run(self._search, queries, vectors, k, scope)
        if self._reranker is not None and found:
            with self._timed("rerank"):
                found = await _reranked(self._reranker, max(queries, key=lambda query: query.weight).text, found)
        return await self._run(self._thinned, found, queries, vectors, k)

    async def _embedded(self, queries: Sequence[Query], embedder: QueryEmbedder) -> Vectors:
        """In one call, with the questions of the background when they are not known yet."""
        texts = [query.text for query in queries]
        with self._timed("embed"):
            if self._unrelated is not None:
                return await embedder.embed_queries(texts)
            vectors = await embedder.embed_queries([*texts, *QUESTIONS])
        self._unrelated = vectors[len(texts) :]
        return vectors[: len(texts)]

    async def catch_up(self) -> None:
        """Takes in what is new; and a newer generation, once much lies beside the one in memory."""
        await self._run(self._catch_up)
        await self._run(lambda: self._lexical.open(self._connection()))
        await self._run(self._renew)

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._note(stage, time.perf_counter() - started)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _connection(self) -> apsw.Connection:
        if self._db is None:
            self._db = open_reader(self._data)
        return self._db

    def _scope(self, names: Sequence[str] | None, filters: Filters | None, chosen: Sequence[FileSubset] = ()) -> Scope:
        known = dict(query(self._connection(), "SELECT name, id FROM collections WHERE is_active"))
        watched = sorted(name for name in known if not is_managed(name))
        for name in names or ():
            if name not in watched and all(name != each.collection for each in chosen):
                raise CollectionNotFound(name, watched)
        ids = sorted(known[name] for name in (watched if names is None else names) if name in known)
        if filters in (None, Filters()) and not chosen:
            return Scope(None if self._is_everything(ids) else ids, None)
        files = tuple((known[each.collection], each.paths) for each in chosen if each.collection in known)
        only = self._selections.select(self._connection(), filters or Filters(), ids, files)
        return Scope(None if self._is_everything(ids) else ids, only)

    def _search(self, queries: Sequence[Query], vectors: Vectors, k: int, scope: Scope) -> list[Passage]:
        """More than `k`, so that there is a choice."""
        dense, words = self._arms(queries, vectors, max(_CANDIDATES, 2 * k), scope)
        best = fuse(queries, dense, words, self._dense_weight)[: max(_SPARE * k, _RERANKED if self._reranker else 0)]
        passages = self._passages([id for id, _ in best])
        return [msgspec.structs.replace(passages[id], score=score) for id, score in best if id in passages]

    def _arms(
        self, queries: Sequence[Query], vectors: Vectors, num_candidates: int, scope: Scope
    ) -> tuple[list[Hits], list[Hits]]:
        """What is nearest to each query, and what has its words."""
        self._catch_up()

        def search_dense() -> list[Hits]:
            with self._timed("dense"):
                return [self._vectors.search(vector, num_candidates, *scope) for vector in vectors]

        def search_words() -> list[Hits]:
            with self._timed("words"):
                db = self._connection()
                return [self._lexical.search(db, query.text, num_candidates, *scope) for query in queries]

        nearest = self._dense_thread.submit(search_dense)
        try:
            words = search_words()
        finally:  # nothing may change the vectors while they are searched
            dense = nearest.result()
        return dense, words

    def search_dense(self, vector: Vectors, k: int, scope: list[int]) -> Hits:
        """The `k` nearest chunks of these collections as (id, cosine), best first. On the retriever's thread."""
        return self._vectors.search(vector, k, None if self._is_everything(scope) else scope)

    def _is_everything(self, scope: list[int]) -> bool:
        """Whether no collection beside these has a document: then nothing need be looked at but the words."""
        others = (
            "SELECT 1 FROM collections WHERE id NOT IN (SELECT value FROM json_each(?))"
            " AND EXISTS (SELECT 1 FROM documents WHERE collection_id = collections.id) LIMIT 1"
        )
        return not query(self._connection(), others, (msgspec.json.encode(scope).decode(),))

    def _explained(
        self,
        queries: Sequence[Query],
        vectors: Vectors,
        scope: Scope,
        files: Sequence[IndexedFile | Explanation],
        thinned: DeduplicatedPassages,
    ) -> list[Explanation]:
        dense, words = self._arms(queries, vectors, _EXPLAINED, scope)
        near = [hits[:_CANDIDATES] for hits in dense], [hits[:_CANDIDATES] for hits in words]
        fused = fuse(queries, *near, self._dense_weight)
        explanations = []
        for file in files:
            if isinstance(file, Explanation):
                explanations.append(file)
                continue
            ids = set(file.chunk_ids)
            ranks = Ranks(_best_rank(dense, ids), _best_rank(words, ids), _best_rank([fused], ids))
            explanation = explained(file, ranks, thinned)
            if reason := self._out_of_scope(file, scope):
                explanation = msgspec.structs.replace(explanation, outcome=Outcome.FILTERED, reason=reason, instead=())
            explanations.append(explanation)
        return explanations

    def _out_of_scope(self, file: IndexedFile, scope: Scope) -> str | None:
        if scope.collections is not None and file.collection_id not in scope.collections:
            return "its collection is not searched"
        if scope.only is not None and not set(file.chunk_ids) & set(scope.only.tolist()):
            return "the filters leave it out"
        return None

    def _thinned(
        self, passages: list[Passage], queries: Sequence[Query], vectors: Vectors, k: int
    ) -> DeduplicatedPassages:
        stored = self._store().of_chunks([passage.chunk_id for passage in passages])
        cosines = dict(zip(stored.ids.tolist(), (stored.vectors @ vectors.T).tolist(), strict=True))
        thinned = deduplicate(passages, k, dict(zip(stored.ids.tolist(), stored.vectors, strict=True)))
        assert self._unrelated is not None, "known since the queries were embedded"
        background = NullDistribution.of(self._unrelated, stored.vectors) if cosines else None
        return thinned._replace(
            kept=[self._judged(p, queries, cosines.get(p.chunk_id), background) for p in thinned.kept]
        )

    def _judged(
        self,
        passage: Passage,
        queries: Sequence[Query],
        cosines: list[float] | None,
        background: NullDistribution | None,
    ) -> Passage:
        """With what speaks for it, for each query."""
        z_score = [background.z_score(each) for each in cosines] if cosines and background else [None] * len(queries)
        covered = [self._lexical.coverage(query.text, passage) for query in queries]
        return msgspec.structs.replace(
            passage,
            similarity=max(cosines) if cosines else None,
            evidence=tuple(map(Evidence, z_score, covered)),
        )

    def _store(self) -> VectorStore:
        return VectorStore(self._connection(), self._fingerprint, self._dimension)

    def _catch_up(self) -> None:
        """Takes in the changes since the last one; from a generation, or from all vectors, when too far behind."""
        db = self._connection()
        while True:
            with snapshot(db):  # of the changes and their vectors
                ((oldest, newest),) = query(db, _BOUNDS)
                if self._seq == newest:
                    return
                if self._seq < max(oldest - 1, 0):
                    self._start_over(db, oldest, newest)
                    continue
                self._replay(db)

    def _start_over(self, db: apsw.Connection, oldest: int, newest: int) -> None:
        generation = read_newest(*self._space(db))
        if generation is not None and oldest - 1 <= generation.header.seq <= newest:
            index = VectorIndex(self._dimension, generation.payload, generation.stored)
            self._seq = generation.header.seq
        else:
            if generation is not None and generation.stored is not None:
                generation.stored.close()
            built = self._store().build_base()
            assert built is not None, "nothing stops it"
            index, self._seq = VectorIndex(self._dimension, b"".join(built.payload()), built.stored()), newest
        self._base_seq = self._seq
        self._vectors.close()
        self._vectors = index

    def _space(self, db: apsw.Connection) -> tuple[Path, str, str, int]:
        ((database,),) = query(db, "SELECT value FROM properties WHERE name = 'id'")
        return vectors_folder(self._data, self._fingerprint), database, self._fingerprint, self._dimension

    def _renew(self) -> None:
        if is_stale(self._vectors.num_beside, len(self._vectors)):
            newest = newest_header(*self._space(self._connection()))
            if newest is not None and newest.seq > self._base_seq:
                self._seq = -1
                self._catch_up()
                self._base_seq = newest.seq  # also when it was damaged: it is not tried again

    def _replay(self, db: apsw.Connection) -> None:
        rows = query(
            db, "SELECT seq, chunk_id, is_removal FROM changes WHERE seq > ? ORDER BY seq LIMIT ?", (self._seq, _REPLAY)
        )
        removed = {chunk_id for _, chunk_id, is_removal in rows if is_removal}
        added = [chunk_id for _, chunk_id, is_removal in rows if not is_removal and chunk_id not in removed]
        self._vectors.remove(removed)
        self._vectors.add(self._store().of_chunks(added))
        self._seq = rows[-1][0]

    def _passages(self, chunk_ids: list[int]) -> dict[int, Passage]:
        rows = query(
            self._connection(),
            "SELECT chunks.id, documents.id, collections.name, path, heading, text, line_from, line_to, place, lead"
            " FROM chunks JOIN documents ON documents.id = document_id"
            " JOIN collections ON collections.id = collection_id"
            " WHERE chunks.id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(chunk_ids).decode(),),
        )
        return {
            id: Passage(
                *(id, document_id, name, path, tuple(msgspec.json.decode(heading)), text, first, last),
                score=0.0,
                place=decode_place(place),
                lead=lead,
            )
            for id, document_id, name, path, heading, text, first, last, place, lead in rows
        }

    def close(self) -> None:
        self._thread.submit(self._close_connection).result()
        self._thread.shutdown()
        self._dense_thread.shutdown()

    def _close_connection(self) -> None:
        self._vectors.close()
        if self._db is not None:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _best_rank(lists: Sequence[Hits], ids: Set[int]) -> int | None:
    ranks = [rank for hits in lists for rank, (id, _) in enumerate(hits, 1) if id in ids]
    return min(ranks, default=None)


def fuse(
    queries: Sequence[Query], dense: Sequence[Hits], words: Sequence[Hits], dense_weight: float = DENSE_WEIGHT
) -> Hits:
    """Convex combination of min–max scaled scores (Bruch et al., arXiv 2210.11934), of both arms of every query by its
    weight; scores in 0..1. The order of the queries means nothing."""
    total = fsum(weight for _, weight in queries)
    shares: dict[int, list[float]] = {}
    for (_, weight), nearest, lexical in zip(queries, dense, words, strict=True):
        for arm, hits in ((dense_weight, nearest), (1 - dense_weight, lexical)):
            low = min((score for _, score in hits), default=0.0)
            width = max((score for _, score in hits), default=0.0) - low
            for id, score in hits:
                scaled = (score - low) / width if width else 1.0
                shares.setdefault(id, []).append(weight / total * arm * scaled)
    scores = {id: fsum(parts) for id, parts in shares.items()}
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


async def _reranked(reranker: Reranker, question: str, passages: list[Passage]) -> list[Passage]:
    """The first passages in the reranker's order; the others stay behind them."""
    first, rest = passages[:_RERANKED], passages[_RERANKED:]
    scores = await reranker.rerank(question, [passage.text for passage in first])
    low, width = min(scores), (max(scores) - min(scores)) or 1  # the model's scale, made 0..1
    first = [
        msgspec.structs.replace(p, score=float((score - low) / width)) for p, score in zip(first, scores, strict=True)
    ]
    first.sort(key=lambda passage: -passage.score)
    return first + [msgspec.structs.replace(p, score=min(p.score, first[-1].score)) for p in rest]
