"""The parts of the server that every handler receives, narrowed to what the caller may see."""

import copy
import time
from collections.abc import Mapping
from typing import Protocol

from index.storage.base import Catalog
from index.types import Collection
from models.encoder.client import EncoderClient
from server.access.principal import UNRESTRICTED, Principal
from server.files.service import FileService
from server.files.vector_stores import VectorStoreService
from server.observability.metrics import Metrics
from server.rag.pipeline import RagPipeline
from server.resources.embedding import EmbeddingService
from server.resources.indexer import IndexerClient
from server.resources.indexer_control import IndexerControl
from server.resources.live_retriever import LiveRetriever
from server.resources.pool import ModelPool
from server.resources.readiness import Readiness
from server.resources.reranking import RerankingService
from server.resources.search import SearchService
from server.resources.supervisor import Supervisor
from server.settings.settings import Settings
from server.storage.base import BatchStore, JobStore, ResponseStore


class ProcessStatus(Protocol):
    @property
    def is_ready(self) -> bool: ...
    @property
    def state(self) -> str: ...


class Services:
    """Opened by `server.composition`. `started_at` is in Unix seconds."""

    principal: Principal = UNRESTRICTED

    def __init__(
        self,
        *,
        settings: Settings,
        pool: ModelPool,
        collections: list[Collection],
        encoder: Supervisor[EncoderClient],
        indexer: Supervisor[IndexerClient],
        indexer_control: IndexerControl,
        catalog: Catalog,
        live_retriever: LiveRetriever,
        search: SearchService,
        rag: RagPipeline,
        embeddings: EmbeddingService,
        reranking: RerankingService,
        files: FileService,
        vector_stores: VectorStoreService,
        responses: ResponseStore,
        batches: BatchStore,
        jobs: JobStore,
        readiness: Readiness,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.collections = collections
        self.encoder = encoder
        self.indexer = indexer
        self.indexer_control = indexer_control
        self.catalog = catalog
        self.live_retriever = live_retriever
        self.search = search
        self.rag = rag
        self.embeddings = embeddings
        self.reranking = reranking
        self.files = files
        self.vector_stores = vector_stores
        self.responses = responses
        self.batches = batches
        self.jobs = jobs
        self.readiness = readiness
        self.metrics = metrics
        self.started_at = int(time.time())

    @property
    def processes(self) -> Mapping[str, ProcessStatus]:
        """The processes that are needed to answer a question, by name."""
        return {"engine": self.pool.default, "encoder": self.encoder, "indexer": self.indexer}

    def seen_by(self, principal: Principal) -> "Services":
        """Return the services narrowed to the principal: its own responses and batches, its collections alone."""
        seen = copy.copy(self)
        seen.principal = principal
        seen.responses = self.responses.seen_by(principal)
        seen.batches = self.batches.seen_by(principal)
        seen.catalog = self.catalog.seen_by(principal.collections)
        seen.indexer_control = self.indexer_control.seen_by(principal.collections)
        if principal.collections is not None:
            seen.collections = [collection for collection in self.collections if principal.may_see(collection.name)]
            seen.files = self.files.seen_by(principal)
            seen.vector_stores = self.vector_stores.seen_by(principal)
            seen.search = self.search.seen_by([collection.name for collection in seen.collections])
            seen.rag = self.rag.seen_by(seen.search)
        return seen
