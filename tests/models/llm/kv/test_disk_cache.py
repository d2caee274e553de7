"""Prefixes are restored after a restart, and the answer is the same; tested with real models."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.catalog import resolve_chat
from models.llm.engine.client import EngineClient, open_engine
from models.llm.gguf.identity import identity_of
from models.llm.kv.prefix_store import PrefixStore
from models.llm.llama.runner import LlamaRunner
from models.llm.params import EngineParams, SamplingParams

BUILTIN = resolve_chat("reader-v1").path
ENDLESS = SamplingParams(temperature=0, logit_bias={1: -1e9, 2: -1e9, 3: -1e9})
PARAMS = EngineParams(n_ctx=2048, num_threads=1)
RNG = np.random.default_rng(3)
SYSTEM, FIRST, SECOND = (RNG.integers(500, 4000, size).tolist() for size in (200, 40, 40))


@pytest.fixture(params=["attention", "recurrent"])
def model(request: pytest.FixtureRequest) -> Path:
    path: Path = BUILTIN if request.param == "attention" else request.getfixturevalue("mamba")
    return path


async def answer(engine: EngineClient, prompt: list[int]) -> tuple[list[int], int]:
    """Return ten tokens, and how many of the prompt's tokens needed no computing."""
    tokens, num_cached = [], 0
    async with contextlib.aclosing(engine.generate(prompt, 10, ENDLESS)) as deltas:
        async for delta in deltas:
            tokens += delta.tokens
            num_cached = delta.num_cached
    return tokens, num_cached


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.05)


def prefix_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.prefix"))


def test_a_conversation_goes_on_after_a_restart_without_prefill(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engine(model, PARAMS, tmp_path) as engine:
            first_turn = [*SYSTEM, *FIRST]
            tokens, _ = await answer(engine, first_turn)
            conversation = [*first_turn, *tokens, *SECOND]
            expected, in_memory = await answer(engine, conversation)
        assert prefix_files(tmp_path), "written when the engine ended"
        async with open_engine(model, PARAMS, tmp_path) as engine:
            assert await answer(engine, conversation) == (expected, pytest.approx(in_memory, abs=60))
            assert (await answer(engine, [7, *conversation]))[1] == 0

    asyncio.run(scenario())


def test_a_reused_prefix_is_written_while_idle_and_survives_a_kill(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engine(model, PARAMS, tmp_path) as engine:
            await answer(engine, [*SYSTEM, *FIRST])
            tokens, _ = await answer(engine, [*SYSTEM, *FIRST])
            await wait_until(lambda: bool(prefix_files(tmp_path)))
            os.kill(engine.pid, signal.SIGKILL)
            await engine.wait_for_exit()
        async with open_engine(model, PARAMS, tmp_path) as engine:
            again, num_cached = await answer(engine, [*SYSTEM, *FIRST])
            assert again == tokens
            assert num_cached > 200

    asyncio.run(scenario())


def test_a_state_that_llama_cpp_refuses_is_computed_again(tmp_path: Path) -> None:
    with LlamaRunner(BUILTIN, PARAMS) as runner:
        assert runner.identity != identity_of([BUILTIN])
        store = PrefixStore(tmp_path, runner.identity, 1 << 30)
    store.write([*SYSTEM, *FIRST], b"\x07" * 5000)

    async def scenario() -> None:
        async with open_engine(BUILTIN, PARAMS) as engine:
            expected = await answer(engine, [*SYSTEM, *FIRST])
        async with open_engine(BUILTIN, PARAMS, tmp_path) as engine:
            assert await answer(engine, [*SYSTEM, *FIRST]) == expected

    asyncio.run(scenario())


@pytest.mark.parametrize("obstacle", ["a file", "below a file"])
def test_the_engine_works_without_a_usable_prefix_folder(tmp_path: Path, obstacle: str) -> None:
    folder = tmp_path / "prefixes"
    folder.write_text("in the way")

    async def scenario() -> None:
        async with open_engine(BUILTIN, PARAMS, folder if obstacle == "a file" else folder / "below") as engine:
            assert (await answer(engine, [*SYSTEM, *FIRST]))[1] == 0

    asyncio.run(scenario())
