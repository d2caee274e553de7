"""The pool of chat models with fake engines: memory budget, users, waiters, failures and shutdown."""

import asyncio
import contextlib
import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.catalog import resolve_chat
from models.errors import ModelDoesNotFit, ModelError, ModelFileError, ProcessUnavailable
from models.llm.params import Adapter, EngineParams
from server.resources import pool as pool_module
from server.resources import supervisor
from server.resources.local_model import LocalModelSource
from server.resources.pool import ModelPool
from tests.server.resources.fake_engines import (
    NAMES,
    NEVER,
    Engines,
    Models,
    Scene,
    engine_of,
    play,
    settle,
    until,
)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.0)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    with contextlib.ExitStack() as stack:
        yield Models(stack)


def test_the_default_is_loaded_at_the_start_and_others_on_demand(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.loaded_names == {"default"}
        assert [model.state for model in scene.pool] == ["ready", "not loaded", "not loaded", "not loaded"]
        await scene.touch("a")
        assert scene.loaded_names == {"default", "a"}
        assert scene.pool.num_bytes == 20

    play(models, scenario)


def test_concurrent_requests_for_a_model_share_one_load(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        start = scene.engines.starts["a"] = asyncio.Event()
        waiting = [asyncio.create_task(scene.touch("a")) for _ in range(20)]
        await settle()
        assert not any(each.done() for each in waiting)
        assert scene.pool["a"].state == "starting"
        start.set()
        await asyncio.gather(*waiting)
        assert scene.engines.opened == ["default", "a"]

    play(models, scenario)


def test_a_failed_load_is_raised_to_every_waiter_and_tried_again_by_the_next_request(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        scene.engines.failures["a"] = 1
        results = await asyncio.gather(*(scene.touch("a") for _ in range(5)), return_exceptions=True)
        assert [str(error) for error in results] == ["engine: no luck"] * 5
        assert scene.pool["a"].state == "not loaded: engine: no luck"
        assert scene.pool.num_bytes == 10
        await scene.touch("a")
        assert scene.pool["a"].state == "ready"

    play(models, scenario)


def test_a_cancelled_request_does_not_cancel_the_load_for_others(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        start = scene.engines.starts["a"] = asyncio.Event()
        first, second = (asyncio.create_task(scene.touch("a")) for _ in range(2))
        await settle()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        start.set()
        await second
        assert scene.engines.opened == ["default", "a"]

    play(models, scenario)


def test_a_model_whose_waiters_were_cancelled_is_loaded_and_unloaded_as_usual(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        start = scene.engines.starts["a"] = asyncio.Event()
        only = asyncio.create_task(scene.touch("a"))
        await until(lambda: "a" in scene.engines.memory)
        only.cancel()
        start.set()
        await until(lambda: "a" not in scene.engines.memory)

    play(models, scenario, unload_after_s=0)


def test_the_least_recently_used_model_is_unloaded_for_another(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        for name in ("a", "b", "a", "c"):
            await scene.touch(name)
        assert scene.loaded_names == {"default", "a", "c"}
        await scene.touch("b")
        assert scene.loaded_names == {"default", "c", "b"}

    play(models, scenario)


def test_no_more_models_are_unloaded_than_needed(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        for name in ("a", "b"):
            await scene.touch(name)
        await scene.touch("c")
        assert scene.loaded_names == {"default", "b", "c"}

    play(models, scenario, sizes=(10, 10, 5, 15), budget=30)


def test_a_model_in_use_stays_and_the_error_has_the_sizes(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.using("a"), scene.using("b"):
            with pytest.raises(ModelDoesNotFit) as does_not_fit:
                await scene.touch("c")
            assert does_not_fit.value.retry_after
            assert "c needs about 10 MB of memory; 30 MB are for chat models" in str(does_not_fit.value)
            assert "a (10 MB)" in str(does_not_fit.value)
            assert "b (10 MB)" in str(does_not_fit.value)
            assert scene.loaded_names == {"default", "a", "b"}
        await scene.touch("c")

    play(models, scenario, sizes=(10_000_000,) * 4, budget=30_000_000)


def test_no_model_is_unloaded_where_that_would_not_be_enough(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.touch("a")
        async with scene.using("b"):
            with pytest.raises(ModelDoesNotFit):
                await scene.touch("c")
        assert scene.loaded_names == {"default", "a", "b"}

    play(models, scenario, sizes=(10, 5, 10, 15), budget=30)


def test_the_default_does_not_wait_for_other_loads(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        start = scene.engines.starts["a"] = asyncio.Event()
        waiting = asyncio.create_task(scene.touch("a"))
        await settle()
        await scene.touch("default")
        assert not waiting.done()
        start.set()
        await waiting

    play(models, scenario)


def test_a_loaded_model_does_not_wait_while_another_is_unloaded(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        end = scene.engines.ends["a"] = asyncio.Event()
        await scene.touch("a")
        await scene.touch("b")
        waiting = asyncio.create_task(scene.touch("c"))
        await until(lambda: scene.pool["a"].state == "unloading")
        await scene.touch("b")
        assert not waiting.done()
        end.set()
        await waiting

    play(models, scenario)


def test_unused_models_are_unloaded_and_loaded_again_on_demand(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.using("a"):
            await settle()
            assert "a" in scene.loaded_names
        await until(lambda: scene.loaded_names == {"default"})
        await until(lambda: scene.pool["a"].state == "not loaded")
        await scene.touch("a")

    engines = play(models, scenario, unload_after_s=0)
    assert engines.opened == ["default", "a", "a"]


def test_a_model_stays_loaded_for_its_own_keep_time(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        pool = scene.pool
        for name, keep_s in (("a", 0.0), ("b", None)):
            async with scene.using(name) as model:
                pool.set_keep_s(model, keep_s)
        assert [pool.keep_s(each) for each in pool][:3] == [math.inf, 0.0, NEVER]
        await until(lambda: scene.loaded_names == {"default", "b"})
        pool.set_keep_s(pool["b"], 0.0)
        await until(lambda: scene.loaded_names == {"default"})
        for name in ("a", "b"):
            pool.set_keep_s(pool[name], None)

    play(models, scenario)


def test_a_model_that_is_being_unloaded_is_loaded_again_for_a_request(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        end = scene.engines.ends["a"] = asyncio.Event()
        await scene.touch("a")
        await until(lambda: scene.pool["a"].state == "unloading")
        waiting = asyncio.create_task(scene.touch("a"))
        await settle()
        assert not waiting.done()
        end.set()
        await waiting

    play(models, scenario, unload_after_s=0)


def test_memory_counts_until_the_process_has_ended_even_if_the_request_is_cancelled(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        end = scene.engines.ends["a"] = asyncio.Event()
        await scene.touch("a")
        await scene.touch("b")
        leaving = asyncio.create_task(scene.touch("c"))
        await until(lambda: scene.pool["a"].is_unloading)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert scene.pool.num_bytes == 30
        next_one = asyncio.create_task(scene.touch("c"))
        same_again = asyncio.create_task(scene.touch("a"))
        await settle()
        assert not next_one.done()
        end.set()
        await asyncio.gather(next_one, same_again)

    play(models, scenario)


def test_a_crashed_engine_is_restarted_and_others_are_not_affected(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.touch("b")
        async with scene.using("a") as model:
            scene.engines.active["a"] -= 1  # a crash takes it away, and may
            scene.engines.running["a"].crash()
            await until(lambda: scene.engines.opened.count("a") == 2 and model.state == "ready")
            scene.engines.active["a"] += 1
            assert engine_of(model) is scene.engines.running["a"]
        assert scene.engines.opened == ["default", "b", "a", "a"]

    play(models, scenario)


def test_an_unexpected_error_of_a_load_is_raised_to_the_waiter(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        scene.engines.ticks = lambda: 1 // 0
        with pytest.raises(ProcessUnavailable, match="ZeroDivisionError"):
            await scene.touch("a")
        scene.engines.ticks = lambda: 0
        scene.engines.memory.pop("a")
        await scene.touch("a")

    play(models, scenario)


def test_a_model_that_is_not_loaded_has_no_engine(models: Models) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(ProcessUnavailable, match="a is not loaded"):
            engine_of(scene.pool["a"])

    play(models, scenario)


def test_closing_the_pool_unloads_every_model_and_answers_every_waiter(models: Models) -> None:
    waiting: list[asyncio.Task[None]] = []

    async def scenario(scene: Scene) -> None:
        await scene.touch("b")
        scene.engines.starts["a"] = asyncio.Event()  # never comes
        waiting.extend(asyncio.create_task(scene.touch("a")) for _ in range(3))
        await settle()
        waiting.append(asyncio.create_task(scene.touch("a")))  # has not begun when the pool is closed

    async def whole() -> None:
        engines = Engines(30)
        pool = ModelPool(models.sources(engines), 30, NEVER)
        async with pool.running():
            await scenario(Scene(pool, engines))
            engines.is_closing = True
        async with asyncio.timeout(5):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in results] == [ProcessUnavailable] * 4
        assert not engines.memory

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("sizes", "budget", "name", "message"),
    [
        (
            (31_000_000, 1, 1, 1),
            30_000_000,
            "default",
            "default needs about 31 MB of memory; 30 MB are for chat models.",
        ),
        ((10_000_000, 1, 25_000_000, 1), 30_000_000, "b", "this one always stays in memory: default (10 MB)"),
    ],
)
def test_a_model_that_never_fits_is_refused_when_the_pool_is_made(
    models: Models, sizes: tuple[int, ...], budget: int, name: str, message: str
) -> None:
    with pytest.raises(ModelDoesNotFit) as does_not_fit:
        ModelPool(models.sources(Engines(budget), sizes), budget, NEVER)
    assert (does_not_fit.value.name, does_not_fit.value.retry_after) == (name, None)
    assert message in str(does_not_fit.value)


def test_adapters_must_exist_and_count_in_the_size(tmp_path: Any) -> None:
    resolved = resolve_chat("reader-v1")
    path, engines = tmp_path / "lora.gguf", Engines(0)
    changed = msgspec.structs.replace(resolved, adapters=(Adapter(str(path)),))
    with pytest.raises(ModelFileError, match="No such file"):
        LocalModelSource(changed, EngineParams(), engines.open)
    path.write_bytes(bytes(12_345))
    with (
        LocalModelSource(resolved, EngineParams(), engines.open) as plain,
        LocalModelSource(changed, EngineParams(), engines.open) as adapted,
    ):
        assert adapted.memory_bytes == plain.memory_bytes + 12_345


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=2004)
def test_the_budget_holds_and_every_request_is_answered_in_random_runs(models: Models, seed: int) -> None:
    """The fake engines assert the invariants while clients come, hold a model, fail, leave and are cancelled."""
    rng = random.Random(seed)
    sizes = tuple(rng.randint(1, 10) for _ in NAMES)
    budget = sizes[0] + rng.randint(10, 20)

    async def client(scene: Scene) -> None:
        for _ in range(rng.randint(1, 4)):
            for _ in range(rng.randint(0, 6)):
                await asyncio.sleep(0)
            with contextlib.suppress(ModelError):
                name = rng.choice(NAMES)
                async with scene.using(name) as model:
                    assert model.is_loaded
                    for _ in range(rng.choice([0, 0, 1, 8])):
                        await asyncio.sleep(0)
                        assert model.state == "ready", "for as long as it is used"

    async def scenario(scene: Scene) -> None:
        scene.engines.ticks = lambda: rng.choice([0, 1, 10])
        scene.engines.failures = {name: rng.choice([0, 0, 1, 2]) for name in NAMES[1:]}
        clients = [asyncio.create_task(client(scene)) for _ in range(rng.randint(1, 20))]
        for _ in range(rng.randint(0, 150)):
            await asyncio.sleep(0)
            if rng.random() < 0.15:
                rng.choice(clients).cancel()
        async with asyncio.timeout(20):
            results = await asyncio.gather(*clients, return_exceptions=True)
        assert [error for error in results if isinstance(error, Exception)] == []
        assert scene.pool.num_bytes <= budget

    play(models, scenario, sizes=sizes, budget=budget, unload_after_s=rng.choice([0, 0.0005, NEVER]))
