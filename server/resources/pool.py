"""The pool of chat models: which of them are in memory, and how many requests use each.

One model is the default: loaded at the start, and kept. The others are loaded on demand, and unloaded when nobody has
used them for a while, or when their memory is needed. A model in use is never unloaded.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from models.errors import ModelDoesNotFit, ModelError, ModelUnavailable, ProcessUnavailable
from models.memory import format_bytes
from server.resources.model_source import ModelSource

_log = logging.getLogger(__name__)

_CHECK_S = 1.0  # how often unused models are looked for
_RETRY_AFTER_S = 5


class _Use:
    """The use of a model."""

    def __init__(self) -> None:
        self.num_users = 0
        self.last_used = time.monotonic()
        self.keep_s: float | None = None  # after its last use; None: as the pool is set


class ModelPool:
    """Loads and unloads chat models within a memory budget. `budget_bytes` is for all loaded models together."""

    def __init__(
        self,
        models: Sequence[ModelSource],
        budget_bytes: int,
        unload_after_s: float,
        missing: Mapping[str, ModelError] = MappingProxyType({}),
    ) -> None:
        """The first model is the default. `missing` are models whose files cannot be read, and why.

        Raises `ModelDoesNotFit` for a model for which there will never be room.
        """
        self.missing = missing
        self._models = {model.name: model for model in models}
        self._uses = {model.name: _Use() for model in models}
        self._budget_bytes = budget_bytes
        self._unload_after_s = unload_after_s
        self._loading = asyncio.Lock()
        self._is_closing = False
        self.default = models[0]
        for model in models:
            others = [] if model is self.default else [self.default]
            if model.memory_bytes + sum(each.memory_bytes for each in others) > budget_bytes:
                raise ModelDoesNotFit(model.name, model.memory_bytes, budget_bytes, _names_with_sizes(others))

    def __iter__(self) -> Iterator[ModelSource]:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        """Return whether the name is known. The name of a missing model is."""
        return name in self._models or name in self.missing

    def __getitem__(self, name: str) -> ModelSource:
        """Raises `ModelUnavailable` for a missing model."""
        if name in self.missing:
            raise ModelUnavailable(name, str(self.missing[name]))
        return self._models[name]

    @property
    def num_bytes(self) -> int:
        """Memory of the models that are loaded, being loaded or being unloaded."""
        return sum(model.memory_bytes for model in self if model.is_loaded)

    def set_keep_s(self, model: ModelSource, keep_s: float | None) -> None:
        """Keep a model loaded for so many seconds after each use; None: as the pool is set."""
        self._uses[model.name].keep_s = keep_s

    def keep_s(self, model: ModelSource) -> float:
        """Return after how many seconds without a request a model is unloaded; infinity for the default."""
        keep_s = self._uses[model.name].keep_s
        if model is self.default:
            return math.inf
        return self._unload_after_s if keep_s is None else keep_s

    def is_in_use(self, model: ModelSource) -> bool:
        return self._uses[model.name].num_users > 0

    def expires_in_s(self, model: ModelSource) -> float:
        """Return in how many seconds a model is unloaded if no further request uses it, at least 0."""
        idle_s = 0 if self.is_in_use(model) else time.monotonic() - self._uses[model.name].last_used
        return max(self.keep_s(model) - idle_s, 0)

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[ModelSource]:
        """Yield the model, loaded, and keep it loaded for the body's duration.

        Raises `ModelUnavailable` for a missing model, `ProcessUnavailable` while the default starts or any restarts,
        `ModelDoesNotFit` while others are using the memory, and what prevents a start.
        """
        model = self[name]
        use = self._uses[name]
        use.num_users += 1
        try:
            if model is not self.default:
                await self._load(model)
            yield model
        finally:
            use.num_users -= 1
            use.last_used = time.monotonic()

    async def _load(self, model: ModelSource) -> None:
        """Load a model. Requests that come while it is being loaded wait for the same load."""
        if not model.is_loaded or model.is_unloading:
            async with self._loading:
                if model.is_unloading:
                    await model.unload()
                if not model.is_loaded:
                    await self._make_room(model)
                    self._start(model)
        await model.wait_until_loaded()

    def _start(self, model: ModelSource) -> None:
        if self._is_closing:
            reason = f"the server is stopping; {model.name} is not loaded"
            raise ProcessUnavailable("engine", reason, retry_after=_RETRY_AFTER_S)
        model.load()

    async def _make_room(self, model: ModelSource) -> None:
        """Unload unused models, the least recently used first. Raises `ModelDoesNotFit` if that is not enough.

        Looks again after each, since requests come and go meanwhile.
        """
        while self.num_bytes + model.memory_bytes > self._budget_bytes:
            unused = sorted(
                (each for each in self if self._is_unused(each)), key=lambda each: self._uses[each.name].last_used
            )
            if self.num_bytes - sum(each.memory_bytes for each in unused) + model.memory_bytes > self._budget_bytes:
                loaded = _names_with_sizes(each for each in self if each.is_loaded)
                raise ModelDoesNotFit(
                    model.name, model.memory_bytes, self._budget_bytes, loaded, retry_after=_RETRY_AFTER_S
                )
            _log.info("%s: unloaded, %s needs the memory", unused[0].name, model.name)
            await unused[0].unload()

    def _is_unused(self, model: ModelSource) -> bool:
        return model.is_loaded and not self.is_in_use(model) and model is not self.default

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the default model; on leaving, unload all models."""
        self._start(self.default)
        unloading = asyncio.create_task(self._unload_unused(), name="unload")
        try:
            yield
        finally:
            self._is_closing = True
            unloading.cancel()
            await asyncio.gather(unloading, *(model.unload() for model in self), return_exceptions=True)

    async def _unload_unused(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            async with self._loading:
                for model in self:
                    if self._is_unused(model) and not self.expires_in_s(model):
                        _log.info("%s: unloaded, nobody has used it", model.name)
                        await model.unload()


def _names_with_sizes(models: Iterable[ModelSource]) -> list[str]:
    return [f"{model.name} ({format_bytes(model.memory_bytes)})" for model in models]
