"""The chat models: which of them are in memory, and who uses them.

One is the default: loaded at the start, and kept. The others are loaded when somebody asks for them, and leave when
nobody has for a while, or when their memory is needed. A model in use is never taken away.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Self

from models.catalog import ResolvedChatModel
from models.errors import ModelDoesNotFit, ModelError, ModelFileError, ModelUnavailable, ProcessUnavailable
from models.llm.base import ChatModel, CompletionModel
from models.llm.engine.client import EngineClient
from models.llm.local import LocalChatModel
from models.llm.params import EngineParams
from models.memory import format_bytes
from server.resources.supervisor import Supervisor

_log = logging.getLogger(__name__)

_CHECK_S = 1.0  # how often idle models are looked for
_RETRY_S = 5


class ManagedModel:
    """A configured chat model. Its vocabulary is always open; its engine runs while it is loaded."""

    def __init__(self, resolved: ResolvedChatModel, params: EngineParams) -> None:
        """Raises `ModelFileError`, `TemplateError`."""
        self.resolved = resolved
        self.params = params
        adapters = sum(_size_of(Path(adapter.path)) for adapter in resolved.adapters)
        self._local = LocalChatModel(resolved.name, resolved.path, self.engine, is_extractive=resolved.extractive)
        estimate = self._local.estimate(params)
        self.size = estimate.total + adapters  # bytes when loaded
        self.n_ctx = estimate.n_ctx
        self.num_users = 0
        self.last_used = time.monotonic()
        self.keep_s: float | None = None  # after its last use; None: as the shelf is set
        self.supervisor: Supervisor[EngineClient] | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.resolved.name

    @property
    def chat_model(self) -> ChatModel:
        return self._local

    @property
    def completion_model(self) -> CompletionModel:
        return self._local

    @property
    def is_loaded(self) -> bool:
        """Whether it takes memory: it is loaded, being loaded or restarted, or its process has not ended yet."""
        return self._running is not None and not self._running.done()

    @property
    def is_leaving(self) -> bool:
        return self._stopping is not None

    @property
    def state(self) -> str:
        if self.supervisor is None:
            return "not loaded"
        if self.is_leaving:
            return "unloading"
        if self.is_loaded:
            return self.supervisor.state
        return "not loaded" if self.supervisor.has_started else f"not loaded: {self.supervisor.state}"

    def engine(self) -> EngineClient:
        """What runs now. Raises `ProcessUnavailable`."""
        if self.supervisor is None or not self.is_loaded:
            raise ProcessUnavailable("engine", f"{self.name} is not loaded", retry_after=1)
        return self.supervisor.current()

    def start(self, open: "OpenEngine") -> Supervisor[EngineClient]:
        supervisor = self.supervisor = Supervisor("engine", lambda: open(self))
        self._running = asyncio.create_task(supervisor.run(), name=f"engine {self.name}")
        self._running.add_done_callback(lambda task: supervisor.give_up(self._ended(task)))
        return supervisor

    def _ended(self, task: "asyncio.Task[None]") -> ProcessUnavailable:
        error = None if task.cancelled() else task.exception()
        reason = f"{type(error).__name__}: {error}" if error else f"{self.name} was unloaded"
        return ProcessUnavailable("engine", reason, retry_after=_RETRY_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._local.close()

    async def stop(self) -> None:
        """Returns when the process has ended, whatever becomes of other callers. Idempotent."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"stop {self.name}")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._running = self._stopping = None


def _size_of(path: Path) -> int:
    """Raises `ModelFileError`."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error


OpenEngine = Callable[[ManagedModel], AbstractAsyncContextManager[EngineClient]]


class ModelPool:
    """Owns the engines' supervisors. `budget` is in bytes, for all models in memory together."""

    def __init__(
        self,
        models: Sequence[ManagedModel],
        open: OpenEngine,
        budget: int,
        unload_after_s: float,
        missing: Mapping[str, ModelError] = MappingProxyType({}),
    ) -> None:
        """The first model is the default. `missing`: those of which the files cannot be read, and why.

        Raises `ModelDoesNotFit` for a model for which there will never be room.
        """
        self.missing = missing
        self._models = {model.name: model for model in models}
        self._open = open
        self._budget = budget
        self._unload_after_s = unload_after_s
        self._loading = asyncio.Lock()
        self.default = models[0]
        for model in models:
            kept = [] if model is self.default else [self.default]
            if model.size + sum(each.size for each in kept) > budget:
                raise ModelDoesNotFit(model.name, model.size, budget, _listed(kept))

    def __iter__(self) -> Iterator[ManagedModel]:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        """Also one that is missing: it is known."""
        return name in self._models or name in self.missing

    def __getitem__(self, name: str) -> ManagedModel:
        """Raises `ModelUnavailable` for one that is missing."""
        if name in self.missing:
            raise ModelUnavailable(name, str(self.missing[name]))
        return self._models[name]

    @property
    def num_bytes(self) -> int:
        """Of the models that are in memory, on their way into it or out of it."""
        return sum(model.size for model in self if model.is_loaded)

    def keep_s(self, model: ManagedModel) -> float:
        """Seconds without a request after which it leaves the memory; the default never does."""
        if model is self.default:
            return math.inf
        return self._unload_after_s if model.keep_s is None else model.keep_s

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[ManagedModel]:
        """The model, loaded, and kept for the body's duration.

        Raises `ModelUnavailable` for one that is missing, `ProcessUnavailable` while the default starts or any
        restarts, `ModelDoesNotFit` while others are using the memory, and what prevents a start.
        """
        model = self[name]
        model.num_users += 1
        try:
            if model is not self.default:
                await self._load(model)
            yield model
        finally:
            model.num_users -= 1
            model.last_used = time.monotonic()

    async def _load(self, model: ManagedModel) -> None:
        """Whoever comes while it is being loaded waits for the same start."""
        if not model.is_loaded or model.is_leaving:
            async with self._loading:
                if model.is_leaving:
                    await model.stop()
                if not model.is_loaded:
                    await self._make_room(model)
                    model.start(self._open)
        assert model.supervisor is not None
        await model.supervisor.first()

    async def _make_room(self, wanted: ManagedModel) -> None:
        """Unloads what nobody uses, the least recently used first. Raises `ModelDoesNotFit` if that is not enough.

        Looks again after each, for others come and go meanwhile.
        """
        while self.num_bytes + wanted.size > self._budget:
            idle = sorted((each for each in self if self._is_idle(each)), key=lambda each: each.last_used)
            if self.num_bytes - sum(each.size for each in idle) + wanted.size > self._budget:
                loaded = _listed(each for each in self if each.is_loaded)
                raise ModelDoesNotFit(wanted.name, wanted.size, self._budget, loaded, retry_after=_RETRY_S)
            _log.info("%s: unloaded, %s needs the memory", idle[0].name, wanted.name)
            await idle[0].stop()

    def _is_idle(self, model: ManagedModel) -> bool:
        return model.is_loaded and not model.num_users and model is not self.default

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the default model; on leaving, all engines have ended."""
        self.default.start(self._open)
        watching = asyncio.create_task(self._unload_unused(), name="unload")
        try:
            yield
        finally:
            self._open = _closed
            watching.cancel()
            await asyncio.gather(watching, *(model.stop() for model in self), return_exceptions=True)

    async def _unload_unused(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            async with self._loading:
                for model in self:
                    if self._is_idle(model) and time.monotonic() - model.last_used >= self.keep_s(model):
                        _log.info("%s: unloaded, nobody has used it", model.name)
                        await model.stop()


def _listed(models: Iterable[ManagedModel]) -> list[str]:
    return [f"{model.name} ({format_bytes(model.size)})" for model in models]


def _closed(model: ManagedModel) -> AbstractAsyncContextManager[EngineClient]:
    """Opens nothing more."""
    raise ProcessUnavailable("engine", f"the server is stopping; {model.name} is not loaded", retry_after=_RETRY_S)
