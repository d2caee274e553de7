"""Fake engines of a model pool, which check the pool's invariants, and a scene of clients over them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from models.catalog import resolve_chat
from models.errors import ProcessFailed
from models.ipc import finish_despite_cancellation
from models.llm.params import EngineParams
from server.resources.local_model import LocalModelSource
from server.resources.model_source import ModelSource
from server.resources.pool import ModelPool

NAMES = ("default", "a", "b", "c")
NEVER = 1e9


class FakeEngine:
    pid = 1

    def __init__(self) -> None:
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait_for_exit(self) -> str:
        return await self._end

    def crash(self) -> None:
        self._end.set_result("killed")


class Engines:
    """Opens fake engines, and checks what the pool does. `active` counts the users of each model."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.opened: list[str] = []
        self.running: dict[str, FakeEngine] = {}
        self.memory: dict[str, int] = {}  # bytes, from before the start until after the end
        self.active = dict.fromkeys(NAMES, 0)
        self.is_closing = False
        self.wrongs: list[str] = []
        self.failures: dict[str, int] = {}  # how many of the next starts fail
        self.starts: dict[str, asyncio.Event] = {}  # what a start waits for
        self.ends: dict[str, asyncio.Event] = {}  # what an end waits for
        self.ticks: Callable[[], int] = lambda: 0

    @contextlib.asynccontextmanager
    async def open(self, model: LocalModelSource) -> AsyncIterator[Any]:
        self._expect(model.name not in self.memory, f"one process for {model.name}")
        self.opened.append(model.name)
        self.memory[model.name] = model.memory_bytes
        self._expect(sum(self.memory.values()) <= self.budget, f"{self.memory} within {self.budget}")
        try:
            await self._pause(self.starts.get(model.name))
            if self.failures.get(model.name, 0):
                self.failures[model.name] -= 1
                raise ProcessFailed("engine", "no luck")
            self.running[model.name] = FakeEngine()
            yield self.running[model.name]
        finally:
            self._expect(self.is_closing or not self.active[model.name], f"nobody loses {model.name}")
            self.running.pop(model.name, None)
            await finish_despite_cancellation(self._end(model.name))

    async def _end(self, name: str) -> None:
        await self._pause(self.ends.get(name))
        del self.memory[name]

    def _expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.wrongs.append(what)

    async def _pause(self, event: asyncio.Event | None) -> None:
        if event is not None:
            await event.wait()
        for _ in range(self.ticks()):
            await asyncio.sleep(0)


class Models:
    """Four model files; each test chooses their sizes and engines."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        resolved = resolve_chat("reader-v1")
        resolved_by_name = [msgspec.structs.replace(resolved, name=name) for name in NAMES]
        self._sources = [
            stack.enter_context(LocalModelSource(each, EngineParams(), lambda source: self._engines.open(source)))
            for each in resolved_by_name
        ]
        self._engines = Engines(0)

    def sources(self, engines: Engines, sizes: tuple[int, ...] = (10, 10, 10, 10)) -> list[LocalModelSource]:
        self._engines = engines
        for source, size in zip(self._sources, sizes, strict=True):
            source.memory_bytes = size
        return self._sources


class Scene:
    """A running pool, its engines, and clients."""

    def __init__(self, pool: ModelPool, engines: Engines) -> None:
        self.pool = pool
        self.engines = engines

    @contextlib.asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[ModelSource]:
        async with self.pool.use(name) as model:
            self.engines.active[name] += 1
            try:
                yield model
            finally:
                self.engines.active[name] -= 1

    async def touch(self, name: str) -> None:
        async with self.using(name) as model:
            assert engine_of(model) is self.engines.running[name]

    @property
    def loaded_names(self) -> set[str]:
        return set(self.engines.running)


def engine_of(model: ModelSource) -> Any:
    assert isinstance(model, LocalModelSource)
    return model.engine()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


def play(
    models: Models,
    scenario: Callable[[Scene], Coroutine[Any, Any, None]],
    *,
    sizes: tuple[int, ...] = (10, 10, 10, 10),
    budget: int = 30,
    unload_after_s: float = NEVER,
) -> Engines:
    """Run a scenario, and check that every model is unloaded afterwards."""

    async def run() -> Engines:
        engines = Engines(budget)
        sources = models.sources(engines, sizes)
        pool = ModelPool(sources, budget, unload_after_s)
        async with pool.running():
            await pool.default.wait_until_loaded()
            await scenario(Scene(pool, engines))
            engines.is_closing = True
        assert not engines.wrongs
        assert not engines.memory
        assert not any(pool.is_in_use(model) or model.is_loaded for model in pool)
        return engines

    return asyncio.run(run())
