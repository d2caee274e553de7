"""Indexing and search in this process, without the server: the parts that evaluations put together."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from index.ingest.indexer import Indexer
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.reading.readers import read
from index.types import Collection, DocumentEmbedder, Scores, Vectors
from models.catalog import resolve_embedding, resolve_reranker
from models.encoder.embedder import Embedder, open_embedder
from models.encoder.model_exports import ModelExports
from models.encoder.params import Runtime
from models.encoder.reranker import CrossEncoder, open_reranker
from server.settings.settings import Settings


class QueryEmbedderInProcess:
    """A `QueryEmbedder` over an embedder in this process."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_queries(texts)


class RerankerInProcess:
    """A reranker for the retriever over a cross-encoder in this process."""

    def __init__(self, reranker: CrossEncoder) -> None:
        self._reranker = reranker

    async def rerank(self, query: str, texts: Sequence[str]) -> Scores:
        return self._reranker.rerank(query, texts)


def open_named_embedder(name: str, threads: int, runtime: Runtime = "auto") -> Embedder:
    """Open an embedding model of the catalog, or of a folder; `threads` 0: as many as there are cores."""
    exports = ModelExports(Settings().cache_folder, runtime)
    return open_embedder(asyncio.run(exports.files(resolve_embedding(name), "embedding")), threads)


def open_named_reranker(name: str, threads: int, runtime: Runtime = "auto") -> RerankerInProcess:
    exports = ModelExports(Settings().cache_folder, runtime)
    files = asyncio.run(exports.files(resolve_reranker(name), "reranking"))
    return RerankerInProcess(open_reranker(files, threads))


def index_folder(root: Path, embedder: DocumentEmbedder, data: Path, chunk_tokens: int) -> None:
    """Index a folder as one collection into the data folder `data`."""
    writer = open_document_store(data)
    collections = [Collection("eval", root)]
    indexer = Indexer(collections, writer, embedder, IndexingParams(chunk_tokens=chunk_tokens), data, read)
    indexer.scan()
    while indexer.upkeep.index_words() or indexer.work():
        pass
    writer.close()
