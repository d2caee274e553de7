"""The contract of `server.resources.model_source.ModelSource`, over the sources in tests/model_sources.py."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from models.errors import ProcessFailed, ProcessUnavailable
from server.resources.pool import ModelPool
from tests.model_sources import SOURCES, OpenSource

Run = Callable[[Callable[[OpenSource], Awaitable[None]]], None]


@pytest.fixture(params=SOURCES.values(), ids=SOURCES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return what runs a scenario over a source, and unloads it afterwards."""

    def run(scenario: Callable[[OpenSource], Awaitable[None]]) -> None:
        async def main() -> None:
            async with request.param(tmp_path) as opened:
                await scenario(opened)
                await opened.source.unload()

        asyncio.run(main())

    return run


def test_a_source_is_described_before_it_is_loaded(run: Run) -> None:
    async def describe(opened: OpenSource) -> None:
        source = opened.source
        assert source.name == source.chat_model.name
        assert source.n_ctx > 0
        assert source.memory_bytes >= 0
        assert source.profile.num_slots >= 1
        assert (source.state, source.is_ready, source.is_loaded, source.num_pending) == ("not loaded", False, False, 0)
        assert source.num_restarts is None

    run(describe)


def test_a_model_for_bare_prompts_is_the_same_model(run: Run) -> None:
    async def compare(opened: OpenSource) -> None:
        assert opened.source.completion_model in (None, opened.source.chat_model)

    run(compare)


def test_a_loaded_source_is_ready_until_it_is_unloaded(run: Run) -> None:
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

    run(load_twice)


def test_a_failed_load_is_raised_to_every_waiter_and_can_be_tried_again(run: Run) -> None:
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

    run(fail_then_load)


def test_a_pool_loads_and_unloads_the_source(run: Run) -> None:
    async def use(opened: OpenSource) -> None:
        source = opened.source
        pool = ModelPool([source], source.memory_bytes, unload_after_s=0)
        async with pool.running():
            await source.wait_until_loaded()
            async with pool.use(source.name) as model:
                assert model is source
                assert pool.num_bytes == source.memory_bytes
        assert not source.is_loaded

    run(use)
