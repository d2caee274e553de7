"""The composition root: opens everything that `Services` holds, and closes it in the opposite order."""

import asyncio
import contextlib
import fcntl
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from index.errors import DataFolderError
from index.params import CHUNK_TOKENS, Chunking, IndexingParams
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Collection, Query
from models.catalog import ResolvedEmbeddingModel, ResolvedModel, resolve_embedding, resolve_reranker
from models.encoder.client import EncoderClient, open_encoder
from models.encoder.exports import source_of
from models.encoder.messages import ModelFiles
from models.encoder.model_exports import ModelExports
from models.errors import ModelError, ModelFileError
from models.llm.engine.client import EngineClient, open_engine
from models.memory import default_memory_budget
from server.files.local_blobs import LocalBlobs
from server.files.service import FileService
from server.files.vector_stores import VectorStoreService
from server.observability.metrics import Metrics
from server.rag.memory import TurnMemory
from server.rag.pipeline import RagPipeline
from server.resources.chat_models import ChatModels, resolve_chat_models
from server.resources.embedding import EmbeddingService
from server.resources.indexer_control import IndexerControl
from server.resources.live_retriever import LiveRetriever
from server.resources.local_model import LocalModelSource, OpenEngine
from server.resources.model_source import ModelSource
from server.resources.pool import ModelPool
from server.resources.readiness import Readiness
from server.resources.reranking import CurrentReranker, RerankingService
from server.resources.search import SearchService
from server.resources.supervisor import Supervisor
from server.resources.watching import WatchedFolders
from server.services import Services
from server.settings.settings import Settings
from server.storage.base import BatchStore, JobStore, ResponseStore
from server.storage.sqlite.batches import SqliteBatchStore
from server.storage.sqlite.files import SqliteFileRepository
from server.storage.sqlite.jobs import SqliteJobStore
from server.storage.sqlite.responses import SqliteResponseStore
from server.storage.sqlite.turns import TURNS_FILE, SqliteTurnStore

_log = logging.getLogger(__name__)


class Server(NamedTuple):
    """A running server: its services, and the folders it watches, which a reload changes."""

    services: Services
    folders: WatchedFolders


class _Models(NamedTuple):
    """The files of the models that the settings name."""

    chat: ChatModels
    embedding: ResolvedEmbeddingModel
    reranker: ResolvedModel | None


class _Stores(NamedTuple):
    catalog: SqliteCatalog
    turns: TurnMemory
    files: FileService
    vector_stores: VectorStoreService
    responses: ResponseStore
    batches: BatchStore
    jobs: JobStore


@contextlib.asynccontextmanager
async def open_server(
    settings: Settings, metrics: Metrics, report_conversion: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Server]:
    """Start the processes and yield at once; they become ready, or fail, in the background.

    `report_conversion` is called with the name of a model that must be converted first. Raises `SettingsError`,
    `ModelError` or `DataFolderError` if a process cannot be started at all.
    """
    collections = settings.collections()
    models = _Models(
        resolve_chat_models(settings),
        resolve_embedding(settings.embedder),
        resolve_reranker(settings.reranker) if settings.reranker else None,
    )
    exports = ModelExports(settings.cache_folder, settings.encoder.runtime, report_conversion)
    indexing = _with_chunk_tokens(settings.indexing, models.embedding)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_lock(settings.data_folder))
        pool = await stack.enter_async_context(_open_pool(settings, models.chat, metrics))
        stores = await _open_stores(settings, collections, indexing, stack)
        folders = WatchedFolders(
            settings.data_folder,
            collections,
            stores.files.uploads,
            stores.catalog,
            indexing,
            partial(exports.files, models.embedding, "embedding"),
        )
        encoder = Supervisor("encoder", partial(_open_encoder, settings, models, exports))
        services = _services(settings, models, pool, stores, collections, encoder, folders, metrics)
        stack.callback(services.live_retriever.close)
        await stack.enter_async_context(_running(encoder, folders, services.live_retriever))
        yield Server(services, folders)


def _services(
    settings: Settings,
    models: _Models,
    pool: ModelPool,
    stores: _Stores,
    collections: list[Collection],
    encoder: Supervisor[EncoderClient],
    folders: WatchedFolders,
    metrics: Metrics,
) -> Services:
    indexer = folders.indexer
    live_retriever = LiveRetriever(
        settings.data_folder,
        encoder.current,
        CurrentReranker(encoder.current),
        settings.rag.dense_weight,
        metrics.observe_search,
        indexer.check_started,
    )
    embeddings = EmbeddingService(models.embedding, encoder.current, settings.encoder.min_dimension)
    search = SearchService(live_retriever.current, live_retriever.embedder)

    def can_answer() -> bool:
        """While the indexer restarts, questions are answered from the index as it is."""
        return pool.default.is_ready and encoder.is_ready and indexer.has_started

    return Services(
        settings=settings,
        pool=pool,
        collections=collections,
        encoder=encoder,
        indexer=indexer,
        indexer_control=IndexerControl(indexer),
        catalog=stores.catalog,
        live_retriever=live_retriever,
        search=search,
        rag=RagPipeline(search, stores.turns, settings.rag.top_k),
        embeddings=embeddings,
        reranking=RerankingService(models.reranker, embeddings, encoder.current),
        files=stores.files,
        vector_stores=stores.vector_stores,
        responses=stores.responses,
        batches=stores.batches,
        jobs=stores.jobs,
        readiness=Readiness(can_answer, partial(search.search, [Query("ready?")], 1)),
        metrics=metrics,
    )


async def _open_stores(
    settings: Settings, collections: list[Collection], indexing: IndexingParams, stack: contextlib.AsyncExitStack
) -> _Stores:
    """Open the databases until `stack` is left."""
    data = settings.data_folder
    catalog = SqliteCatalog(data)
    turns = stack.enter_context(SqliteTurnStore(data / TURNS_FILE, settings.rag.history_bytes))
    repository = stack.enter_context(SqliteFileRepository(data))
    files = FileService(repository, LocalBlobs(data), catalog, collections, settings.files)
    await files.reconcile()
    return _Stores(
        catalog=catalog,
        turns=TurnMemory(turns),
        files=files,
        vector_stores=VectorStoreService(files, Chunking(indexing.chunk_tokens or CHUNK_TOKENS, 0)),
        responses=stack.enter_context(SqliteResponseStore(data, settings.responses.max_bytes)),
        batches=stack.enter_context(SqliteBatchStore(data)),
        jobs=stack.enter_context(SqliteJobStore(data)),
    )


@contextlib.asynccontextmanager
async def _running(
    encoder: Supervisor[EncoderClient], folders: WatchedFolders, retriever: LiveRetriever
) -> AsyncIterator[None]:
    """Run the supervisors, and keep the retriever close to the database, until this is left."""
    tasks = [asyncio.create_task(process.run(), name=process.name) for process in (encoder, folders.indexer)]
    first = (encoder.first, folders.indexer.first)
    tasks.append(asyncio.create_task(retriever.follow_always(first), name="follow"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Models


@contextlib.asynccontextmanager
async def _open_pool(settings: Settings, chat: ChatModels, metrics: Metrics) -> AsyncIterator[ModelPool]:
    def open_model(model: LocalModelSource) -> contextlib.AbstractAsyncContextManager[EngineClient]:
        prefixes, adapters = settings.data_folder / "prefixes", model.resolved.adapters
        return open_engine(model.resolved.path, model.params, prefixes, adapters, metrics.meter(model.name))

    with contextlib.ExitStack() as stack:
        models, missing = _open_models(chat, open_model, stack)
        budget = settings.memory_budget_bytes or default_memory_budget()
        pool = ModelPool(models, budget, settings.unload_after_s, missing)
        async with pool.running():
            yield pool


def _open_models(
    chat: ChatModels, open_engine: OpenEngine, stack: contextlib.ExitStack
) -> tuple[list[ModelSource], dict[str, ModelError]]:
    """Return the models whose files can be read, the default first, and why the others cannot.

    They are open until `stack` is left. Raises the error of the default model.
    """
    (default, *further), missing = chat.configured, dict(chat.missing)
    models = [stack.enter_context(default.open(open_engine))]
    for model in further:
        try:
            models.append(stack.enter_context(model.open(open_engine)))
        except ModelError as error:
            missing[model.name] = error
    for name, reason in missing.items():
        _log.warning("the model models.%s is not available: %s", name, reason)
    return models, missing


@contextlib.asynccontextmanager
async def _open_encoder(settings: Settings, models: _Models, exports: ModelExports) -> AsyncIterator[EncoderClient]:
    embedder = await exports.files(models.embedding, "embedding")
    reranker = await exports.files(models.reranker, "reranking") if models.reranker else None
    previous = await _previous_embedder(settings.data_folder, embedder)
    async with open_encoder(embedder, reranker, settings.encoder.num_threads, previous) as client:
        yield client


async def _previous_embedder(data: Path, embedder: ModelFiles) -> ModelFiles | None:
    """Return the embedder of the vector space that is searched, if it is another one than `embedder`.

    Returns None if its files have changed.
    """
    space = await asyncio.to_thread(SqliteCatalog(data).vector_space)
    if space is None or not space.origin:
        return None
    try:
        previous = msgspec.json.decode(space.origin, type=ModelFiles)
        if previous.export is None and previous != embedder:  # an export is verified when it is opened; a folder is not
            source = await asyncio.to_thread(source_of, Path(previous.path), "embedding")
            if source != previous.source:
                raise ModelFileError(Path(previous.path), "its files have changed")
    except (msgspec.MsgspecError, ModelError) as error:
        _log.warning("the previous embedding model cannot be used, search has vectors of the new one only: %s", error)
        return None
    return None if previous == embedder else previous


def _with_chunk_tokens(params: IndexingParams, embedding: ResolvedEmbeddingModel) -> IndexingParams:
    return params if params.chunk_tokens else msgspec.structs.replace(params, chunk_tokens=embedding.chunk_tokens)


# The data folder


@contextlib.contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Allow one server per data folder. The kernel releases the lock when the process ends."""
    with contextlib.ExitStack() as stack:
        try:
            data.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((data / "lock").open("w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderError(
                data, "another server uses this data folder; stop it, or name another folder: --data DIR"
            ) from None
        except OSError as error:
            raise DataFolderError(data, f"the data folder cannot be used: {error.strerror}") from error
        yield
