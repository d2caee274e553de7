"""The chat models: which of them are in memory, and who uses them.

One is the default: loaded at the start, and kept. The others are loaded when somebody asks for them, and leave when
nobody has for a while, or when their memory is needed. A model in use is never taken away.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self

from models.catalog import ResolvedChat
from models.errors import ModelDoesNotFit, ProcessUnavailable
from models.llm.client import EngineClient
from models.llm.language_model import LanguageModel
from models.llm.params import EngineParams
from models.memory import readable
from server.supervisor import Supervisor

_log = logging.getLogger(__name__)

_CHECK_S = 1.0  # how often idle models are looked for
_RETRY_S = 5


class ShelfModel:
    """A configured chat model. Its vocabulary is always open; its engine runs while it is loaded."""

    def __init__(self, resolved: ResolvedChat, params: EngineParams) -> None:
        """Raises `ModelFileError`, `TemplateError`."""
        self.resolved = resolved
        self.params = params
        self.language_model = LanguageModel(resolved.name, resolved.path, self.engine)
        estimate = self.language_model.estimate(params)
        self.size = estimate.total  # bytes when loaded
        self.n_ctx = estimate.n_ctx
        self.num_users = 0
        self.last_used = time.monotonic()
        self.supervisor: Supervisor[EngineClient] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.resolved.name

    @property
    def is_loaded(self) -> bool:
        """Or is being loaded, or restarted."""
        return self._running is not None and not self._running.done()

    @property
    def state(self) -> str:
        return self.supervisor.state if self.supervisor is not None and self.is_loaded else "not loaded"

    def engine(self) -> EngineClient:
        """What runs now. Raises `ProcessUnavailable`."""
        if self.supervisor is None or not self.is_loaded:
            raise ProcessUnavailable("engine", f"{self.name} is not loaded", retry_after=1)
        return self.supervisor.current()

    def start(self, open: "OpenEngine") -> Supervisor[EngineClient]:
        self.supervisor = Supervisor("engine", lambda: open(self))
        self._running = asyncio.create_task(self.supervisor.run(), name=f"engine {self.name}")
        return self.supervisor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.language_model.close()

    async def stop(self) -> None:
        """Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


OpenEngine = Callable[[ShelfModel], AbstractAsyncContextManager[EngineClient]]


class Shelf:
    """Owns the engines' supervisors. `budget` is in bytes, for all models in memory together."""

    def __init__(self, models: Sequence[ShelfModel], open: OpenEngine, budget: int, unload_after_s: float) -> None:
        """The first model is the default. Raises `ModelDoesNotFit` for one that never can."""
        self._models = {model.name: model for model in models}
        self._open = open
        self._budget = budget
        self._unload_after_s = unload_after_s
        self._loading = asyncio.Lock()
        for model in models:
            if model.size > budget:
                raise ModelDoesNotFit(model.name, model.size, budget, [])
        self.default = models[0]

    def __iter__(self) -> Iterator[ShelfModel]:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def __getitem__(self, name: str) -> ShelfModel:
        return self._models[name]

    @property
    def num_bytes(self) -> int:
        """Of the models that are in memory, or being loaded."""
        return sum(model.size for model in self if model.is_loaded)

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[ShelfModel]:
        """The model, loaded, and kept for the body's duration.

        Raises `ProcessUnavailable` while the default starts or any restarts, `ModelDoesNotFit` while others are using
        the memory, and what prevents a start.
        """
        model = self._models[name]
        model.num_users += 1
        try:
            if model is not self.default:
                await self._load(model)
            yield model
        finally:
            model.num_users -= 1
            model.last_used = time.monotonic()

    async def _load(self, model: ShelfModel) -> None:
        """Whoever comes while it is being loaded waits for the same start."""
        async with self._loading:
            if not model.is_loaded:
                await self._make_room(model)
                model.start(self._open)
        assert model.supervisor is not None
        await model.supervisor.first()

    async def _make_room(self, wanted: ShelfModel) -> None:
        """Unloads what nobody uses, the least recently used first. Raises `ModelDoesNotFit` if that is not enough."""
        idle = sorted((each for each in self if self._is_idle(each)), key=lambda each: each.last_used)
        if self.num_bytes - sum(each.size for each in idle) + wanted.size > self._budget:
            loaded = [f"{each.name} ({readable(each.size)})" for each in self if each.is_loaded]
            raise ModelDoesNotFit(wanted.name, wanted.size, self._budget, loaded, retry_after=_RETRY_S)
        for each in idle:
            if self.num_bytes + wanted.size <= self._budget:
                break
            await each.stop()

    def _is_idle(self, model: ShelfModel) -> bool:
        return model.is_loaded and not model.num_users and model is not self.default

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the default model; on leaving, all engines have ended."""
        self.default.start(self._open)
        watching = asyncio.create_task(self._unload_unused(), name="unload")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, *(model.stop() for model in self), return_exceptions=True)

    async def _unload_unused(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            async with self._loading:
                for model in self:
                    if self._is_idle(model) and time.monotonic() - model.last_used >= self._unload_after_s:
                        _log.info("%s: unloaded, nobody has used it", model.name)
                        await model.stop()
