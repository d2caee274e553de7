"""The `Searcher` over SQLite, the vector index and the lexical index: recall, fusion, reranking, deduplication.

It reads what the indexer commits, and never writes. SQLite and the indexes are touched on threads of the retriever's
own, so the event loop never waits for a search. Before each search the in-memory index takes in the change log, so that
everything committed is found.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from index.dense.search import DenseSearch
from index.lexical.search import LexicalSearch
from index.params import DENSE_WEIGHT
from index.search.base import QueryEmbedder
from index.search.calibration import QUESTIONS, NullDistribution
from index.search.deduplication import DeduplicatedPassages, deduplicate
from index.search.explain import explain_file, find_expected
from index.search.explanation import Explanation, Outcome, Ranks
from index.search.filters import FilterCache
from index.search.fusion import best_rank, fuse
from index.search.reranking import MAX_RERANKED, rerank
from index.search.scope import ResolvedScope, resolve_scope, without_needless_restriction
from index.storage.sqlite.reader import FileRecord, IndexReader
from index.types import Evidence, FileSubset, Filters, Hits, Passage, Query, Reranker, Vectors

_MIN_CANDIDATES = 100  # of dense and of lexical search, for each query
_EXPLAINED_CANDIDATES = 10_000  # of each, where the rank of an expected file is wanted
_SPARE = 3  # candidates for each passage that is asked for: some are gone, some are duplicates

T = TypeVar("T")


class Rankings(NamedTuple):
    """The hits of dense and of lexical search, each a list with one ranking for each query."""

    dense: list[Hits]
    words: list[Hits]

    def first(self, num_candidates: int) -> "Rankings":
        return Rankings([hits[:num_candidates] for hits in self.dense], [hits[:num_candidates] for hits in self.words])


class Retriever:
    """Owns a reading connection and the in-memory index of one vector space. A context manager.

    `on_stage` is called with the name of each stage of a search and the seconds it took, on whichever thread it ran.
    """

    def __init__(
        self,
        data: Path,
        fingerprint: str,
        dimension: int,
        reranker: Reranker | None = None,
        dense_weight: float = DENSE_WEIGHT,
        on_stage: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        self._on_stage = on_stage
        self._data = data
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._reranker = reranker
        self._dense_weight = dense_weight
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="retriever")
        self._dense_thread = ThreadPoolExecutor(1, thread_name_prefix="dense")  # beside lexical search; no SQLite
        self._opened_reader: IndexReader | None = None
        self._dense = DenseSearch(data, fingerprint, dimension)
        self._lexical = LexicalSearch(data)
        self._filter_cache = FilterCache()
        self._null_questions: Vectors | None = None  # embedded with the first query

    async def search(
        self,
        queries: Sequence[Query],
        embedder: QueryEmbedder,
        k: int,
        collections: Sequence[str] | None = None,
        filters: Filters | None = None,
        subsets: Sequence[FileSubset] = (),
    ) -> list[Passage]:
        with self._measure("all"):
            scope = await self._run(self._resolve, collections, filters, subsets)
            queries = [query for query in queries if query.weight > 0]
            if not queries or scope.is_empty:
                return []
            return (await self._search(queries, await self._embed(queries, embedder), k, scope)).passages

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
        collection, path = expected
        scope = await self._run(self._resolve, collections, filters)
        queries = [query for query in queries if query.weight > 0]
        vectors = await self._embed(queries, embedder)
        result = await self._search(queries, vectors, k, scope)
        files = await self._run(lambda: find_expected(self._reader(), collection, path, known))
        rankings = await self._run(self._rank, queries, vectors, _EXPLAINED_CANDIDATES, scope)
        fused = fuse(queries, *rankings.first(_MIN_CANDIDATES), self._dense_weight)
        return [
            file if isinstance(file, Explanation) else _explain(file, path, scope, rankings, fused, result)
            for file in files
        ]

    async def catch_up(self) -> None:
        await self._run(lambda: self._dense.catch_up(self._reader()))
        await self._run(lambda: self._lexical.open(self._reader().connection))
        await self._run(lambda: self._dense.renew(self._reader()))

    def close(self) -> None:
        self._thread.submit(self._close).result()
        self._thread.shutdown()
        self._dense_thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def search_dense(self, vector: Vectors, k: int, collection_ids: list[int]) -> Hits:
        """Return the hits of dense search alone, as of the last catch-up. To be run on the retriever's thread."""
        return self._dense.search(vector, k, without_needless_restriction(self._reader(), collection_ids))

    async def _search(
        self, queries: Sequence[Query], vectors: Vectors, k: int, scope: ResolvedScope
    ) -> DeduplicatedPassages:
        passages = await self._run(self._candidates, queries, vectors, k, scope)
        if self._reranker is not None and passages:
            question = max(queries, key=lambda query: query.weight).text
            with self._measure("rerank"):
                passages = await rerank(self._reranker, question, passages)
        return await self._run(self._deduplicate, passages, queries, vectors, k)

    async def _embed(self, queries: Sequence[Query], embedder: QueryEmbedder) -> Vectors:
        """Return the queries' vectors. The first call embeds the questions of the null distribution with them."""
        texts = [query.text for query in queries]
        with self._measure("embed"):
            if self._null_questions is not None:
                return await embedder.embed_queries(texts)
            vectors = await embedder.embed_queries([*texts, *QUESTIONS])
        self._null_questions = vectors[len(texts) :]
        return vectors[: len(texts)]

    @contextlib.contextmanager
    def _measure(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._on_stage(stage, time.perf_counter() - started)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    # What follows runs on the retriever's thread.

    def _reader(self) -> IndexReader:
        if self._opened_reader is None:
            self._opened_reader = IndexReader(self._data)
        return self._opened_reader

    def _close(self) -> None:
        self._dense.close()
        if self._opened_reader is not None:
            self._opened_reader.close()

    def _resolve(
        self, names: Sequence[str] | None, filters: Filters | None, subsets: Sequence[FileSubset] = ()
    ) -> ResolvedScope:
        return resolve_scope(self._reader(), self._filter_cache, names, filters, subsets)

    def _candidates(self, queries: Sequence[Query], vectors: Vectors, k: int, scope: ResolvedScope) -> list[Passage]:
        """Return more than `k` passages by their fused scores, best first."""
        dense, words = self._rank(queries, vectors, max(_MIN_CANDIDATES, 2 * k), scope)
        num_passages = max(_SPARE * k, MAX_RERANKED if self._reranker else 0)
        best = fuse(queries, dense, words, self._dense_weight)[:num_passages]
        passages = {passage.chunk_id: passage for passage in self._reader().passages([id for id, _ in best])}
        return [msgspec.structs.replace(passages[id], score=score) for id, score in best if id in passages]

    def _rank(self, queries: Sequence[Query], vectors: Vectors, num_candidates: int, scope: ResolvedScope) -> Rankings:
        self._dense.catch_up(self._reader())

        def search_dense() -> list[Hits]:
            with self._measure("dense"):
                return [self._dense.search(vector, num_candidates, *scope) for vector in vectors]

        def search_words() -> list[Hits]:
            with self._measure("words"):
                db = self._reader().connection
                return [self._lexical.search(db, query.text, num_candidates, *scope) for query in queries]

        dense = self._dense_thread.submit(search_dense)
        try:
            words = search_words()
        finally:  # nothing may change the vectors while they are searched
            dense_hits = dense.result()
        return Rankings(dense_hits, words)

    def _deduplicate(
        self, passages: list[Passage], queries: Sequence[Query], vectors: Vectors, k: int
    ) -> DeduplicatedPassages:
        """Drop duplicates, and note for each passage that is kept what speaks for it."""
        stored = self._reader().vectors(self._fingerprint, self._dimension)
        chunks = stored.of_chunks([passage.chunk_id for passage in passages])
        ids = chunks.ids.tolist()
        cosines = dict(zip(ids, (chunks.vectors @ vectors.T).tolist(), strict=True))
        result = deduplicate(passages, k, dict(zip(ids, chunks.vectors, strict=True)))
        assert self._null_questions is not None, "embedded with the queries"
        null = NullDistribution.of(self._null_questions, chunks.vectors) if ids else None
        return result._replace(
            passages=[self._with_evidence(passage, queries, cosines, null) for passage in result.passages]
        )

    def _with_evidence(
        self,
        passage: Passage,
        queries: Sequence[Query],
        cosines: Mapping[int, list[float]],
        null: NullDistribution | None,
    ) -> Passage:
        similarities = cosines.get(passage.chunk_id)
        z_scores = [null.z_score(each) for each in similarities] if similarities and null else [None] * len(queries)
        evidence = tuple(
            Evidence(z_score=z_score, coverage=self._lexical.coverage(query.text, passage))
            for z_score, query in zip(z_scores, queries, strict=True)
        )
        similarity = max(similarities) if similarities else None
        return msgspec.structs.replace(passage, similarity=similarity, evidence=evidence)


def _explain(
    file: FileRecord, path: str, scope: ResolvedScope, rankings: Rankings, fused: Hits, result: DeduplicatedPassages
) -> Explanation:
    ids = set(file.chunk_ids)
    ranks = Ranks(best_rank(rankings.dense, ids), best_rank(rankings.words, ids), best_rank([fused], ids))
    explanation = explain_file(file, path, ranks, result)
    if reason := scope.why_excluded(file):
        return msgspec.structs.replace(explanation, outcome=Outcome.FILTERED, reason=reason, instead=())
    return explanation
