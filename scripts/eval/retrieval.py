"""Measures nDCG@10, Recall@10 and MRR@10 on BEIR-layout folders with the product's Indexer and Retriever.

    scripts/eval/retrieval.py FOLDER … [--embedder NAME|FOLDER] [--reranker NAME|FOLDER] [--runtime onnx|torch|both]
                              [--chunked]

A folder holds corpus.jsonl, queries.jsonl and qrels/test.tsv. Arms: lexical (the retriever in a space without
vectors), dense (exact cosines), fused (the retriever) and, with a reranker, that on top. A document is one chunk, as in
published figures; with `--chunked` it is cut as usual, and counts with its best chunk. Says if the fusion beats the
better arm on every set; ends with status 1 where it does not.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from index.ingest.indexer import Indexer
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.reading.readers import read
from index.search.retriever import Retriever
from index.storage.sqlite.database import open_reader, query
from index.types import Collection, DocumentEmbedder, Passage, Query, Scores, Vectors
from models.catalog import resolve_embedding, resolve_reranker
from models.encoder.embedder import Embedder, open_embedder
from models.encoder.model_exports import ModelExports
from models.encoder.params import Runtime
from models.encoder.reranker import CrossEncoder, open_reranker
from server.settings.settings import Settings

_DEPTH = 100  # passages asked for
_CUT = 10


class Document(NamedTuple):
    id: str
    title: str
    text: str

    @property
    def markdown(self) -> str:
        """The document with its title as the only heading; lines that would be headings are indented."""
        lines = (f" {line}" if line.startswith("#") else line for line in self.text.splitlines())
        return f"# {self.title or 'Untitled'}\n\n" + "\n".join(
            line for line in lines if set(line) - {"=", "-"} or not line
        )


class Dataset(NamedTuple):
    documents: list[Document]
    queries: dict[str, str]  # by id; only those with a relevant document
    relevant: dict[str, dict[str, int]]  # query, document: grade


def read_dataset(folder: Path) -> Dataset:
    def rows(name: str) -> Iterator[dict[str, str]]:
        with (folder / name).open() as lines:
            yield from (msgspec.json.decode(line) for line in lines)

    relevant: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, {})[document] = int(grade)
    documents = [Document(row["_id"], row.get("title", ""), row["text"]) for row in rows("corpus.jsonl")]
    return Dataset(
        documents, {row["_id"]: row["text"] for row in rows("queries.jsonl") if row["_id"] in relevant}, relevant
    )


class WholeDocumentEmbedder:
    """An embedder with a window so large that every document is one chunk."""

    def __init__(self, embedder: Embedder) -> None:
        self.fingerprint, self.dimension, self.max_tokens = embedder.fingerprint, embedder.dimension, 1_000_000
        self.embed_documents = embedder.embed_documents

    def count_tokens(self, text: str) -> int:
        return 1


class QueryEmbedderInProcess:
    """A `QueryEmbedder` over an embedder in this process."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_queries(texts)


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


def index_folder(root: Path, embedder: DocumentEmbedder, data: Path, chunk_tokens: int) -> None:
    """Index a folder as one collection into the data folder `data`."""
    writer = open_document_store(data)
    collections = [Collection("eval", root)]
    indexer = Indexer(collections, writer, embedder, IndexingParams(chunk_tokens=chunk_tokens), data, read)
    indexer.scan()
    while indexer.upkeep.index_words() or indexer.work():
        pass
    writer.close()


def rank_documents(dataset: Dataset, passages: Sequence[Passage]) -> Ranking:
    """Return the documents by their best passages, each once."""
    return list(dict.fromkeys(dataset.documents[int(Path(passage.path).stem)].id for passage in passages))


class RerankerInProcess:
    """A reranker of the retriever over one in this process."""

    def __init__(self, reranker: CrossEncoder) -> None:
        self._reranker = reranker

    async def rerank(self, query: str, texts: Sequence[str]) -> Scores:
        return self._reranker.rerank(query, texts)


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
            near = (dataset.documents[int(Path(paths[chunk]).stem)].id for chunk, _ in hits)
            rankings[id] = list(dict.fromkeys(near))
        return rankings

    with Retriever(folder, embedder.fingerprint, embedder.dimension) as retriever:
        return asyncio.run(search(retriever))


def dense(dataset: Dataset, embedder: Embedder) -> dict[str, Ranking]:
    texts = [f"{document.title}: {document.text}" for document in dataset.documents]
    cosines = embedder.embed_queries(list(dataset.queries.values())) @ embedder.embed_documents(texts).T
    ids = np.array([document.id for document in dataset.documents])
    return {query: ids[np.argsort(-row)][:_DEPTH].tolist() for query, row in zip(dataset.queries, cosines, strict=True)}


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
            preparation = ModelExports(Settings().cache_folder, runtime)
            files = asyncio.run(preparation.files(resolve_embedding(options.embedder), "embedding"))
            embedder = open_embedder(files, options.threads)
            with tempfile.TemporaryDirectory() as data:
                started = time.perf_counter()
                index(dataset, embedder, Path(data), options.chunked)
                print(f"  {runtime}: indexed in {time.perf_counter() - started:.1f} s")
                lexical = print_figures("lexical", search_all(dataset, embedder, Path(data), "no such space"), dataset)
                near = dense_chunked(dataset, embedder, Path(data)) if options.chunked else dense(dataset, embedder)
                better = max(lexical, print_figures(f"dense {runtime}", near, dataset))
                fused = search_all(dataset, embedder, Path(data), embedder.fingerprint)
                margins[f"{folder.name} {runtime}"] = print_figures(f"fused {runtime}", fused, dataset) - better
                if options.reranker:
                    files = asyncio.run(preparation.files(resolve_reranker(options.reranker), "reranking"))
                    pairs = RerankerInProcess(open_reranker(files, options.threads))
                    reranked = search_all(dataset, embedder, Path(data), embedder.fingerprint, pairs)
                    print_figures(f"reranked {runtime}", reranked, dataset)
    for name, margin in margins.items():
        print(f"{name}: the fusion is {'better' if margin > 0 else 'NOT better'} than the better arm, {margin:+.4f}")
    print(f"better on every set: {'yes' if min(margins.values()) > 0 else 'NO'}")
    return 0 if min(margins.values()) > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
