"""Serve the whole application over HTTP in this process, with a scripted model, a fake index and real stores."""

import contextlib
import json
import math
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from litestar.testing import TestClient
from numpy.typing import NDArray

from index.params import Chunking
from index.search.explanation import Explanation, Outcome
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Collection, FileSubset, Filters, Passage, Query
from models.catalog import ResolvedEmbeddingModel
from models.encoder.client import PairScores, PartEmbeddings
from models.encoder.messages import EncoderReady
from server.access.hosts import Hosts
from server.access.middleware import Access
from server.app import create_app
from server.files.local_blobs import LocalBlobs
from server.files.service import FileService
from server.files.vector_stores import VectorStoreService
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.rag.memory import TurnMemory
from server.rag.pipeline import RagPipeline
from server.resources.embedding import EmbeddingService
from server.resources.indexer_control import IndexerControl
from server.resources.pool import ModelPool
from server.resources.readiness import Readiness
from server.resources.reranking import RerankingService
from server.resources.search import SearchService
from server.services import Services
from server.settings.params import AuditLevel, FilesParams
from server.settings.settings import Settings
from server.storage.local.audit import AuditFolder
from server.storage.sqlite.batches import SqliteBatchStore
from server.storage.sqlite.files import SqliteFileRepository
from server.storage.sqlite.jobs import SqliteJobStore
from server.storage.sqlite.responses import SqliteResponseStore
from server.storage.sqlite.turns import SqliteTurnStore
from tests.models.scripted import ScriptedChatModel
from tests.server.scripted_source import ScriptedModelSource

ACCESS = Access(Hosts("127.0.0.1", ["testserver.local"]))


async def no_folders() -> list[Collection]:
    return []


class FakeIndex:
    """A fake retriever that finds these passages in every search and records the searches."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.searches: list[tuple[list[str], int, Sequence[str] | None, Filters | None]] = []
        self.subsets: list[tuple[FileSubset, ...]] = []

    async def search(
        self,
        queries: Sequence[Query],
        embedder: object,
        k: int,
        collections: Sequence[str] | None = None,
        filters: Filters | None = None,
        subsets: Sequence[FileSubset] = (),
    ) -> list[Passage]:
        self.subsets.append(tuple(subsets))
        self.searches.append(([query.text for query in queries], k, collections, filters))
        return list(self.passages)

    async def explain(
        self, queries: object, embedder: object, k: int, expected: tuple[str | None, str], *_: object
    ) -> list[Explanation]:
        """Explain every passage as found."""
        return [
            Explanation(collection=p.collection, path=p.path, outcome=Outcome.FOUND, reason="", rank=rank, passage=p)
            for rank, p in enumerate(self.passages, 1)
            if p.path == expected[1]
        ]


def scripted_pool(model: ScriptedChatModel) -> ModelPool:
    """Return a pool of one model, which is loaded and completes bare prompts too."""
    source = ScriptedModelSource(model, completion_model=model)
    source.memory_bytes = 3_000_000
    source.load()
    return ModelPool([source], budget_bytes=3_000_000, unload_after_s=math.inf, missing={})


class FakeEncoder:
    """An encoder with a window of six words. A text's vector depends on its words; the score of a pair is the number of
    words that they share."""

    ready = EncoderReady(dimension=16, fingerprint="fake", max_tokens=8, has_reranker=True)

    def __init__(self) -> None:
        self.embedded: list[tuple[list[str], str, bool]] = []
        self.scored_pairs: list[tuple[str, list[str]]] = []

    async def embed_parts(
        self, texts: Sequence[str], kind: str, *, is_low_priority: bool = False
    ) -> list[PartEmbeddings]:
        self.embedded.append((list(texts), kind, is_low_priority))
        return [self._parts(text) for text in texts]

    def _parts(self, text: str) -> PartEmbeddings:
        words = text.split() or [""]
        parts = [words[start : start + 6] for start in range(0, len(words), 6)]
        return PartEmbeddings(np.stack([vector_of(part) for part in parts]), [len(part) + 2 for part in parts])

    async def score_pairs(self, query: str, texts: Sequence[str]) -> PairScores:
        self.scored_pairs.append((query, list(texts)))
        shared = [len(set(query.split()) & set(text.split())) for text in texts]
        return PairScores(np.array(shared, np.float32) - 2, sum(len(text.split()) for text in texts))


def vector_of(words: Sequence[str]) -> NDArray[np.float32]:
    """Return a unit vector that is near those of texts with the same words."""
    total = sum(np.random.default_rng(zlib.crc32(word.encode())).standard_normal(16) for word in words)
    return np.asarray(total / np.linalg.norm(total), np.float32)


def _process(name: str, **fields: Any) -> Any:
    """Return a fake supervisor."""
    return SimpleNamespace(
        **{"name": name, "is_ready": True, "has_started": True, "state": "ready", "num_restarts": 0, **fields}
    )


class FakeServices(Services):
    def __init__(
        self, folder: Path, model: ScriptedChatModel, index: FakeIndex, memory: TurnMemory, metrics: Metrics
    ) -> None:
        self.settings = Settings(data=str(folder))
        self.pool = scripted_pool(model)
        self.collections = [Collection("handbook", folder), Collection("policies", folder)]
        self.catalog = SqliteCatalog(folder)
        self.started_at = 1_700_000_000
        self.fake_encoder = FakeEncoder()
        current = cast(Any, lambda: self.fake_encoder)
        self.encoder = cast(Any, _process("encoder", current=current))
        self.indexer = cast(Any, _process("indexer", is_ready=False, state="starting", num_restarts=2))
        self.indexer_control = IndexerControl(self.indexer)
        self.live_retriever = cast(Any, SimpleNamespace(is_in_previous_space=False))
        self.metrics = metrics
        self.embeddings = EmbeddingService(ResolvedEmbeddingModel("fake-embedder", folder, None, 128), current)
        self.reranking = RerankingService(None, self.embeddings, current)
        self.search = SearchService(cast(Any, lambda: index), cast(Any, lambda: None))
        self.rag = RagPipeline(self.search, memory, 4)
        self.readiness = Readiness(lambda: True, partial(self.search.search, [Query("ready?")], 1))


@contextlib.contextmanager
def serving(
    folder: Path,
    model: ScriptedChatModel,
    index: FakeIndex,
    access: Access = ACCESS,
    audit: AuditLevel = "off",
    indexer: object = None,
) -> Iterator[TestClient[Any]]:
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def open_services() -> AsyncIterator[Services]:
        with SqliteTurnStore(folder / "turns.sqlite3", 1_000_000) as turns:
            services = FakeServices(folder, model, index, TurnMemory(turns), metrics)
            if indexer is not None:
                services.indexer = cast(Any, indexer)
                services.indexer_control = IndexerControl(services.indexer)
            with (
                SqliteFileRepository(folder) as repository,
                SqliteResponseStore(folder, 1_000_000) as services.responses,
                SqliteBatchStore(folder) as services.batches,
                SqliteJobStore(folder) as services.jobs,
            ):
                params = FilesParams(max_bytes=10_000)
                services.files = FileService(
                    repository, LocalBlobs(folder), services.catalog, services.collections, params
                )
                await services.files.reconcile()
                services.vector_stores = VectorStoreService(services.files, Chunking(128, 0))
                yield services

    with TestClient(
        create_app(
            cast(Callable[[], Any], open_services), access, metrics, AuditLog(AuditFolder(folder), audit), no_folders
        )
    ) as client:
        yield client


def frames(text: str) -> list[Mapping[str, Any]]:
    """Return the messages of a stream without the last, which is `[DONE]`."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
