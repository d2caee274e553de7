"""Measure nDCG@10, Recall@10 and MRR@10 on data sets in BEIR's layout, with the Indexer and the Retriever.

    scripts/eval/retrieval.py FOLDER … [--embedder NAME|FOLDER] [--reranker NAME|FOLDER] [--runtime onnx|torch|both]
                              [--chunked]

Arms: lexical (the retriever with a vector space that has no vectors), dense (exact cosines), fused (the retriever) and,
with a reranker, the fused hits reranked. Each document is one chunk, as in published figures; with `--chunked` it is
cut into chunks as usual and ranked by its best chunk. The exit status is 1 if the fused arm is not better than both
others on every data set.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from beir import Dataset, read_dataset
from local_search import (
    QueryEmbedderInProcess,
    RerankerInProcess,
    index_folder,
    open_named_embedder,
    open_named_reranker,
)

from index.search.retriever import Retriever
from index.storage.sqlite.database import open_reader, query
from index.types import Passage, Query
from models.encoder.embedder import Embedder
from models.encoder.params import Runtime

_DEPTH = 100  # passages of a search
_CUT = 10


class WholeDocumentEmbedder:
    """An embedder with a window so large that every document is one chunk."""

    def __init__(self, embedder: Embedder) -> None:
        self.fingerprint, self.dimension, self.max_tokens = embedder.fingerprint, embedder.dimension, 1_000_000
        self.embed_documents = embedder.embed_documents

    def count_tokens(self, text: str) -> int:
        return 1


Ranking = list[str]  # document ids, best first


def ndcg(ranking: Ranking, grades: dict[str, int]) -> float:
    def gain(ranked_grades: Sequence[int]) -> float:
        return float(sum(grade / np.log2(rank + 2) for rank, grade in enumerate(ranked_grades[:_CUT])))

    return gain([grades.get(id, 0) for id in ranking]) / gain(sorted(grades.values(), reverse=True))


def recall(ranking: Ranking, grades: dict[str, int]) -> float:
    return len(grades.keys() & set(ranking[:_CUT])) / len(grades)


def reciprocal_rank(ranking: Ranking, grades: dict[str, int]) -> float:
    return next((1 / rank for rank, id in enumerate(ranking[:_CUT], 1) if id in grades), 0.0)


def print_figures(arm: str, rankings: dict[str, Ranking], dataset: Dataset) -> float:
    """Print the figures of an arm, and return its nDCG@10."""
    scores = [
        np.mean([measure(rankings[query], grades) for query, grades in dataset.relevant.items() if query in rankings])
        for measure in (ndcg, recall, reciprocal_rank)
    ]
    print(f"  {arm:20} nDCG@10 {scores[0]:.4f}   Recall@10 {scores[1]:.4f}   MRR@10 {scores[2]:.4f}", flush=True)
    return float(scores[0])


def index(dataset: Dataset, embedder: Embedder, folder: Path, is_chunked: bool) -> None:
    root = folder / "root"
    root.mkdir()
    for number, document in enumerate(dataset.documents):
        (root / f"{number}.md").write_text(document.markdown)
    index_folder(root, embedder if is_chunked else WholeDocumentEmbedder(embedder), folder, 0 if is_chunked else 8192)


def rank_documents(dataset: Dataset, passages: Sequence[Passage]) -> Ranking:
    """Return the documents by their best passages, each once."""
    return list(dict.fromkeys(dataset.documents[int(Path(passage.path).stem)].id for passage in passages))


def search_all(
    dataset: Dataset, embedder: Embedder, folder: Path, fingerprint: str, reranker: RerankerInProcess | None = None
) -> dict[str, Ranking]:
    async def search(retriever: Retriever) -> dict[str, Ranking]:
        return {
            id: rank_documents(dataset, await retriever.search([Query(text)], QueryEmbedderInProcess(embedder), _DEPTH))
            for id, text in dataset.queries.items()
        }

    with Retriever(folder, fingerprint, embedder.dimension, reranker) as retriever:
        return asyncio.run(search(retriever))


def dense_chunked(dataset: Dataset, embedder: Embedder, folder: Path) -> dict[str, Ranking]:
    """Rank documents by their nearest chunks, with the retriever's vectors."""
    db = open_reader(folder)
    paths = dict(query(db, "SELECT chunks.id, path FROM chunks JOIN documents ON documents.id = document_id"))
    collections = [id for (id,) in query(db, "SELECT id FROM collections")]
    db.close()

    async def search(retriever: Retriever) -> dict[str, Ranking]:
        await retriever.catch_up()
        rankings = {}
        for id, vector in zip(dataset.queries, embedder.embed_queries(list(dataset.queries.values())), strict=True):
            hits = await retriever._run(retriever.search_dense, vector, _DEPTH, collections)
            nearest = (dataset.documents[int(Path(paths[chunk]).stem)].id for chunk, _ in hits)
            rankings[id] = list(dict.fromkeys(nearest))
        return rankings

    with Retriever(folder, embedder.fingerprint, embedder.dimension) as retriever:
        return asyncio.run(search(retriever))


def dense(dataset: Dataset, embedder: Embedder) -> dict[str, Ranking]:
    texts = [f"{document.title}: {document.text}" for document in dataset.documents]
    cosines = embedder.embed_queries(list(dataset.queries.values())) @ embedder.embed_documents(texts).T
    ids = np.array([document.id for document in dataset.documents])
    return {query: ids[np.argsort(-row)][:_DEPTH].tolist() for query, row in zip(dataset.queries, cosines, strict=True)}


def evaluate(
    dataset: Dataset, embedder: Embedder, runtime: Runtime, reranker: RerankerInProcess | None, *, is_chunked: bool
) -> float:
    """Print the figures of every arm; return by how much the fused arm's nDCG@10 exceeds the better of the others."""
    with tempfile.TemporaryDirectory() as folder:
        data, started = Path(folder), time.perf_counter()
        index(dataset, embedder, data, is_chunked)
        print(f"  {runtime}: indexed in {time.perf_counter() - started:.1f} s")
        lexical = print_figures("lexical", search_all(dataset, embedder, data, "no such space"), dataset)
        rankings = dense_chunked(dataset, embedder, data) if is_chunked else dense(dataset, embedder)
        better = max(lexical, print_figures(f"dense {runtime}", rankings, dataset))
        fused = print_figures(f"fused {runtime}", search_all(dataset, embedder, data, embedder.fingerprint), dataset)
        if reranker is not None:
            rankings = search_all(dataset, embedder, data, embedder.fingerprint, reranker)
            print_figures(f"reranked {runtime}", rankings, dataset)
    return fused - better


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2")
    parser.add_argument("--reranker")
    parser.add_argument("--runtime", choices=("onnx", "torch", "both"), default="both")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--chunked", action="store_true")
    options = parser.parse_args()
    runtimes: list[Runtime] = ["onnx", "torch"] if options.runtime == "both" else [options.runtime]
    margins: dict[str, float] = {}
    for folder in options.folders:
        dataset = read_dataset(folder)
        print(f"{folder.name}: {len(dataset.documents)} documents, {len(dataset.queries)} queries")
        for runtime in runtimes:
            embedder = open_named_embedder(options.embedder, options.threads, runtime)
            reranker = open_named_reranker(options.reranker, options.threads, runtime) if options.reranker else None
            margin = evaluate(dataset, embedder, runtime, reranker, is_chunked=options.chunked)
            margins[f"{folder.name} {runtime}"] = margin
    for name, margin in margins.items():
        print(f"{name}: fused is {'better' if margin > 0 else 'NOT better'} than the better arm, {margin:+.4f}")
    is_better = min(margins.values()) > 0
    print(f"better on every data set: {'yes' if is_better else 'NO'}")
    return 0 if is_better else 1


if __name__ == "__main__":
    sys.exit(main())
