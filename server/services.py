"""The composition root: everything the handlers use, opened and closed in one place."""

import asyncio
import contextlib
import copy
import fcntl
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from index.errors import DataFolderError, IndexingError
from index.ingest.commands import Follow
from index.params import CHUNK_TOKENS, Chunking, IndexingParams
from index.search.retriever import Retriever
from index.storage.base import Catalog
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Collection, Query
from models.catalog import ResolvedEmbeddingModel, resolve_embedding, resolve_reranker
from models.encoder.client import EncoderClient, open_encoder
from models.encoder.exports import source_of
from models.encoder.messages import ModelFiles
from models.encoder.model_exports import ModelExports
from models.errors import ModelError, ModelFileError
from models.llm.engine.client import EngineClient, open_engine
from models.memory import default_memory_budget
from server.access.principal import UNRESTRICTED, Principal
from server.files.local_blobs import LocalBlobs
from server.files.service import FileService
from server.files.vector_stores import VectorStoreService
from server.observability.metrics import Metrics
from server.rag.memory import TurnMemory
from server.rag.pipeline import RagPipeline
from server.resources.chat_models import ChatModels, resolve_chat_models
from server.resources.embedding import Embeddings
from server.resources.indexer import IndexerClient, open_indexer
from server.resources.indexer_control import IndexerControl
from server.resources.live_retriever import LiveRetriever, QuestionEmbedder
from server.resources.pool import ManagedModel, ModelPool
from server.resources.readiness import Readiness
from server.resources.reranking import Reranking
from server.resources.search import SearchService
from server.resources.supervisor import Supervisor
from server.settings.settings import Settings
from server.storage.base import BatchStore, JobStore, ResponseStore
from server.storage.sqlite.batches import SqliteBatchStore
from server.storage.sqlite.files import SqliteFileRepository
from server.storage.sqlite.jobs import SqliteJobStore
from server.storage.sqlite.responses import SqliteResponseStore
from server.storage.sqlite.turns import TURNS_FILE, SqliteTurnStore

_log = logging.getLogger(__name__)

_FOLLOW_S = 0.5  # how often the in-memory index follows the database when nobody searches
_TAKEN_UP_S, _TAKING_UP_S = 5.0, 0.05  # how long the indexer may take to know a new folder; how often to look


class Services:
    """Opened by `open_services`; handlers receive it whole, or as far as the `principal` who asks may see."""

    principal: Principal = UNRESTRICTED

    def __init__(
        self,
        settings: Settings,
        pool: ModelPool,
        collections: list[Collection],
        encoder: Supervisor[EncoderClient],
        indexer: Supervisor[IndexerClient],
        memory: TurnMemory,
        embeddings: Embeddings,
        reranking: Reranking,
        files: FileService,
        vector_stores: VectorStoreService,
        responses: ResponseStore,
        batches: BatchStore,
        catalog: Catalog,
        jobs: JobStore,
        metrics: Metrics,
    ) -> None:
        self.catalog = catalog
        self.settings = settings
        self.pool = pool
        self.collections = collections
        self.encoder = encoder
        self.indexer = indexer
        self.indexer_control = IndexerControl(indexer)
        self.embeddings = embeddings
        self.reranking = reranking
        self.files = files
        self.vector_stores = vector_stores
        self.responses = responses
        self.batches = batches
        self.jobs = jobs
        self.metrics = metrics
        self.started_at = int(time.time())
        self.live_retriever = LiveRetriever(
            settings.data_folder,
            encoder.current,
            _CurrentReranker(encoder),
            settings.rag.dense_weight,
            metrics.searched,
        )
        self.search = SearchService(self.retriever, self.question_embedder)
        self.rag = RagPipeline(self.search, memory, settings.rag.top_k)
        self.readiness = Readiness(lambda: self.can_answer, partial(self.search.search, [Query("ready?")], 1))

    @property
    def engine(self) -> Supervisor[EngineClient]:
        """Of the default chat model."""
        assert self.pool.default.supervisor is not None, "the shelf is running"
        return self.pool.default.supervisor

    @property
    def processes(self) -> tuple[Supervisor[EngineClient], Supervisor[EncoderClient], Supervisor[IndexerClient]]:
        """Those without which nothing is answered."""
        return self.engine, self.encoder, self.indexer

    def max_passage_chars(self, model: ManagedModel) -> int:
        """Most characters of a passage that the model is given; 0: all."""
        return (
            model.resolved.max_passage_chars
            if self.settings.rag.max_passage_chars is None
            else self.settings.rag.max_passage_chars
        )

    @property
    def can_answer(self) -> bool:
        """While the indexer restarts, answers go on, from the index as it is."""
        return self.engine.is_ready and self.encoder.is_ready and self.indexer.has_started

    def retriever(self) -> Retriever:
        """Raises `ProcessUnavailable`."""
        if not self.indexer.has_started:
            self.indexer.current()  # raises: there may be no database yet
        return self.live_retriever.current()

    def question_embedder(self) -> QuestionEmbedder:
        """Of the space that `retriever` searches, when called at once with it. Raises `ProcessUnavailable`."""
        return self.live_retriever.embedder()

    def seen_by(self, principal: Principal) -> "Services":
        """These, as far as a key's collections go: of others there is nothing, by whatever route. Responses and batches
        are those the key asked for."""
        seen = copy.copy(self)
        seen.principal = principal
        seen.responses = self.responses.seen_by(principal)
        seen.batches = self.batches.seen_by(principal)
        seen.catalog = self.catalog.seen_by(principal.collections)
        seen.indexer_control = self.indexer_control.seen_by(principal.collections)
        if principal.collections is None:
            return seen
        seen.collections = [collection for collection in self.collections if principal.may_see(collection.name)]
        seen.files = self.files.seen_by(principal)
        seen.vector_stores = self.vector_stores.seen_by(principal)
        seen.search = self.search.seen_by([collection.name for collection in seen.collections])
        seen.rag = self.rag.seen_by(seen.search)
        return seen

    async def follow_collections(self, collections: list[Collection]) -> None:
        """Watches these folders from now on, and no others. Returns when they can be searched, be it empty."""
        self.collections[:] = collections
        if not self.indexer.is_ready:
            return  # it is told when it starts
        await self.indexer.current().send(_follow([*collections, self.files.uploads]))
        wanted = {collection.name for collection in collections}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TAKEN_UP_S):
                while not wanted <= {state.name for state in await asyncio.to_thread(self.catalog.status)}:
                    await asyncio.sleep(_TAKING_UP_S)

    async def follow(self) -> None:
        """Keeps the in-memory index close to the database, so that no search has much to catch up with."""
        for process in (self.encoder, self.indexer):
            await process.first()
        while True:
            with contextlib.suppress(ModelError, IndexingError):  # the next search says it to somebody
                await self.live_retriever.follow()
            await asyncio.sleep(_FOLLOW_S)

    def close(self) -> None:
        self.live_retriever.close()


def _follow(collections: Sequence[Collection]) -> Follow:
    return Follow({collection.name: str(collection.root) for collection in collections})


class _CurrentReranker:
    """The reranker in whichever encoder process runs now."""

    def __init__(self, encoder: Supervisor[EncoderClient]) -> None:
        self._encoder = encoder

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._encoder.current().rerank(query, texts)


@contextlib.contextmanager
def _claim(data: Path) -> Iterator[None]:
    """One server a data folder. The lock is the kernel's: it goes with the process, however that ends."""
    with contextlib.ExitStack() as stack:
        try:
            data.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((data / "lock").open("w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderError(
                data, "another Cloister uses this data folder; stop it, or name another: --data DIR"
            ) from None
        except OSError as error:
            raise DataFolderError(data, f"the data folder cannot be used: {error.strerror}") from error
        yield


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings, metrics: Metrics, tell_conversion: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Services]:
    """Starts the processes and yields at once; they become ready, or fail, in the background. `tell_conversion` is
    called with the name of a model that must be converted first.

    Raises `SettingsError`, `ModelError` or `DataFolderError` for what cannot even be started.
    """
    collections = settings.collections()
    chat, embedding = resolve_chat_models(settings), resolve_embedding(settings.embedder)
    reranker = resolve_reranker(settings.reranker) if settings.reranker else None
    data = settings.data_folder
    preparation = ModelExports(settings.cache_folder, settings.encoder.runtime, tell_conversion)
    indexing = _with_chunk_tokens(settings.indexing, embedding)

    @contextlib.asynccontextmanager
    async def prepared_encoder() -> AsyncIterator[EncoderClient]:
        embedder_files = await preparation.files(embedding, "embedding")
        reranker_files = await preparation.files(reranker, "reranking") if reranker else None
        former = await _former_embedder(data, embedder_files)
        async with open_encoder(embedder_files, reranker_files, settings.encoder.num_threads, former) as client:
            yield client

    @contextlib.asynccontextmanager
    async def prepared_indexer() -> AsyncIterator[IndexerClient]:
        embedder_files = await preparation.files(embedding, "embedding")
        told = list(collections)
        async with open_indexer(data, [*told, files.uploads], embedder_files, indexing) as client:
            while told != collections:  # others came while it started
                told = list(collections)
                await client.send(_follow([*told, files.uploads]))
            yield client

    def open_model(model: ManagedModel) -> AbstractAsyncContextManager[EngineClient]:
        chosen = model.resolved
        meter = metrics.meter(model.name)
        return open_engine(chosen.path, model.params, data / "prefixes", chosen.adapters, meter)

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_claim(data))
        models, missing = _opened(chat, stack)
        budget = settings.memory_budget or default_memory_budget()
        pool = ModelPool(models, open_model, budget, settings.unload_after_s, missing)
        await stack.enter_async_context(pool.running())
        encoder = Supervisor("encoder", prepared_encoder)
        indexer = Supervisor("indexer", prepared_indexer)
        turns = stack.enter_context(SqliteTurnStore(data / TURNS_FILE, settings.rag.memory))
        embeddings = Embeddings(embedding, encoder.current, settings.encoder.min_dimension)
        reranking = Reranking(reranker, embeddings, encoder.current)
        auto = Chunking(indexing.chunk_tokens or CHUNK_TOKENS, 0)
        catalog = SqliteCatalog(data)
        repository = stack.enter_context(SqliteFileRepository(data))
        files = FileService(repository, LocalBlobs(data), catalog, collections, settings.files)
        await files.reconcile()
        vector_stores = VectorStoreService(files, auto)
        responses = stack.enter_context(SqliteResponseStore(data, settings.responses.max_bytes))
        batches = stack.enter_context(SqliteBatchStore(data))
        jobs = stack.enter_context(SqliteJobStore(data))
        services = Services(
            settings,
            pool,
            collections,
            encoder,
            indexer,
            TurnMemory(turns),
            embeddings,
            reranking,
            files,
            vector_stores,
            responses,
            batches,
            catalog,
            jobs,
            metrics,
        )
        tasks = [asyncio.create_task(process.run(), name=process.name) for process in (encoder, indexer)]
        tasks.append(asyncio.create_task(services.follow(), name="follow"))
        try:
            yield services
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            services.close()


def _opened(chat: ChatModels, stack: contextlib.AsyncExitStack) -> tuple[list[ManagedModel], dict[str, ModelError]]:
    """The models whose files can be read, the default first, until `stack` is left; and why not the others.

    Raises what is wrong with the default.
    """
    (default, *further), missing = chat.configured, dict(chat.missing)
    models = [stack.enter_context(ManagedModel(default.resolved, default.params))]
    for model in further:
        try:
            models.append(stack.enter_context(ManagedModel(model.resolved, model.params)))
        except ModelError as error:
            missing[model.name] = error
    for name, reason in missing.items():
        _log.warning("models.%s is not available: %s", name, reason)
    return models, missing


async def _former_embedder(data: Path, embedder: ModelFiles) -> ModelFiles | None:
    """That of the space questions are answered from, should it be another one; None also when it has changed."""
    space = await asyncio.to_thread(SqliteCatalog(data).vector_space)
    if space is None or not space.origin:
        return None
    try:
        former = msgspec.json.decode(space.origin, type=ModelFiles)
        if former.export is None and former != embedder:  # a conversion is checked when it is opened; this is not
            source = await asyncio.to_thread(source_of, Path(former.path), "embedding")
            if source != former.source:
                raise ModelFileError(Path(former.path), "it was changed")
    except (msgspec.MsgspecError, ModelError) as error:
        _log.warning("the former embedding model cannot be used: %s", error)
        return None
    return None if former == embedder else former


def _with_chunk_tokens(params: IndexingParams, embedding: ResolvedEmbeddingModel) -> IndexingParams:
    return params if params.chunk_tokens else msgspec.structs.replace(params, chunk_tokens=embedding.chunk_tokens)
