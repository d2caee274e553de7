"""The contract of `server.resources.model_source.ModelSource`: a new implementation adds a line to OPENERS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import pytest

from models.catalog import resolve_chat
from models.errors import ProcessFailed, ProcessUnavailable
from models.llm.params import EngineParams
from server.resources.local_model import LocalModelSource
from server.resources.model_source import ModelSource
from server.resources.pool import ModelPool
from tests.models.scripted import ScriptedChatModel
from tests.server.scripted_source import ScriptedModelSource


class OpenSource(NamedTuple):
    """A source under test. `fail_next_load` makes the next load raise `ModelError`."""

    source: ModelSource
    fail_next_load: Callable[[], object]


class ScriptedEngine:
    """An engine process that runs until it is told to end, and has nothing to do."""

    pid = 1
    num_pending = 0

    async def wait_for_exit(self) -> str:
        return await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def open_local() -> AsyncIterator[OpenSource]:
    failures: list[Exception] = []

    @contextlib.asynccontextmanager
    async def open_engine(source: LocalModelSource) -> AsyncIterator[Any]:
        if failures:
            raise failures.pop()
        yield ScriptedEngine()

    with LocalModelSource(resolve_chat("reader-v1"), EngineParams(), open_engine) as source:
        yield OpenSource(source, lambda: failures.append(ProcessFailed("engine", "no memory")))


@contextlib.asynccontextmanager
async def open_scripted() -> AsyncIterator[OpenSource]:
    """Open a source as a model behind another server is: without memory, process or single tokens."""
    with ScriptedModelSource(ScriptedChatModel()) as source:
        yield OpenSource(source, lambda: source.failures.append(ProcessUnavailable("upstream", "no answer", 1)))


OPENERS = [open_local, open_scripted]
Opener = Callable[[], AbstractAsyncContextManager[OpenSource]]


@pytest.fixture(params=OPENERS, ids=["local", "scripted"])
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


def run(opener: Opener, use: Callable[[OpenSource], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opener() as opened:
            await use(opened)
            await opened.source.unload()

    asyncio.run(main())


def test_a_source_is_described_before_it_is_loaded(opener: Opener) -> None:
    async def describe(opened: OpenSource) -> None:
        source = opened.source
        assert source.name == source.chat_model.name
        assert source.n_ctx > 0
        assert source.memory_bytes >= 0
        assert source.profile.num_slots >= 1
        assert (source.state, source.is_ready, source.is_loaded, source.num_pending) == ("not loaded", False, False, 0)
        assert source.num_restarts is None

    run(opener, describe)


def test_a_model_for_bare_prompts_is_the_same_model(opener: Opener) -> None:
    async def compare(opened: OpenSource) -> None:
        assert opened.source.completion_model in (None, opened.source.chat_model)

    run(opener, compare)


def test_a_loaded_source_is_ready_until_it_is_unloaded(opener: Opener) -> None:
    async def load_twice(opened: OpenSource) -> None:
        source = opened.source
        for _ in range(2):
            source.load()
            assert source.is_loaded
            await source.wait_until_loaded()
            assert (source.state, source.is_ready, source.is_unloading, source.num_pending) == ("ready", True, False, 0)
            assert source.num_restarts in (None, 0)
            await source.unload()
            assert (source.state, source.is_ready, source.is_loaded) == ("not loaded", False, False)
            await source.unload()

    run(opener, load_twice)


def test_a_failed_load_is_raised_to_every_waiter_and_can_be_tried_again(opener: Opener) -> None:
    async def fail_then_load(opened: OpenSource) -> None:
        source = opened.source
        opened.fail_next_load()
        source.load()
        errors = await asyncio.gather(*(source.wait_until_loaded() for _ in range(3)), return_exceptions=True)
        assert {type(error) for error in errors} <= {ProcessFailed, ProcessUnavailable}
        assert not source.is_ready
        assert source.state not in ("ready", "")
        await source.unload()
        source.load()
        await source.wait_until_loaded()
        assert source.is_ready

    run(opener, fail_then_load)


def test_a_pool_loads_and_unloads_the_source(opener: Opener) -> None:
    async def use(opened: OpenSource) -> None:
        source = opened.source
        pool = ModelPool([source], source.memory_bytes, unload_after_s=0)
        async with pool.running():
            await source.wait_until_loaded()
            async with pool.use(source.name) as model:
                assert model is source
                assert pool.num_bytes == source.memory_bytes
        assert not source.is_loaded

    run(opener, use)
