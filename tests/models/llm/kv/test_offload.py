"""Idle prefixes are offloaded while others run, and restored with the same answer; tested with a real model."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from models.catalog import resolve_chat
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Generate
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.kv.offload import KVOffload
from models.llm.llama.runner import LlamaRunner
from models.llm.params import EngineParams, SamplingParams

BUILTIN = resolve_chat("reader-v1").path
ENDLESS = SamplingParams(temperature=0, logit_bias={1: -1e9, 2: -1e9, 3: -1e9})
RNG = np.random.default_rng(3)
FIRST, SECOND, FOLLOW_UP = (RNG.integers(500, 4000, size).tolist() for size in (300, 300, 30))


class OffloadingEngine:
    """An engine with KV offload, as its process runs it."""

    def __init__(self, runner: LlamaRunner, max_offloaded: int) -> None:
        self.scheduler = Scheduler(runner.limits, runner.end_tokens)
        self.offload = KVOffload(self.scheduler, runner, max_offloaded, max_idle_cells=100)
        self._engine = Engine(self.scheduler, runner, 0, prefill_budget=PrefillBudget(runner.limits.n_batch))
        self._next_id = 0

    def answer(self, prompt: list[int]) -> tuple[list[int], int]:
        """Return twenty tokens, and how many of the prompt's tokens needed no computing."""
        self._next_id += 1
        assert not self._engine.add(Generate(self._next_id, prompt, 20, ENDLESS))
        tokens, num_cached = [], 0
        while not self._engine.is_idle:
            self.offload.before_step()
            for delta in self._engine.step():
                tokens, num_cached = tokens + delta.tokens, delta.num_cached
        return tokens, num_cached


@contextmanager
def open_engine(max_offloaded: int) -> Iterator[OffloadingEngine]:
    with LlamaRunner(BUILTIN, EngineParams(n_ctx=1024, num_threads=1)) as runner:
        yield OffloadingEngine(runner, max_offloaded)


def test_an_offloaded_conversation_is_restored_with_the_same_answer() -> None:
    with open_engine(max_offloaded=1000) as offloading, open_engine(max_offloaded=0) as resident:
        for each in (offloading, resident):
            assert each.answer(FIRST)[1] == 0
            each.answer(SECOND)
        assert offloading.scheduler.num_resident(FIRST) == 0
        assert resident.scheduler.num_resident(FIRST) == len(FIRST)
        again = offloading.answer(FIRST + FOLLOW_UP)
        assert again == resident.answer(FIRST + FOLLOW_UP)
        assert again[1] == len(FIRST)


def test_the_least_recently_used_offloaded_prefix_is_evicted_at_the_limit() -> None:
    with open_engine(max_offloaded=700) as engine:
        for prompt in (FIRST, SECOND, SECOND[::-1], FOLLOW_UP):
            engine.answer(prompt)
        assert engine.offload.match([*FIRST, 1]) == 0
        assert engine.offload.match([*SECOND, 1]) == len(SECOND)


def test_a_single_conversation_is_never_offloaded() -> None:
    with open_engine(max_offloaded=1000) as engine:
        engine.answer(FIRST)
        engine.answer(FIRST + FOLLOW_UP)
        assert not engine.offload.prefixes(hot=False)
