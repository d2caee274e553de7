"""With a real model: what rests goes aside while others are answered, and comes back with the same answer."""

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
TALKS_ON = SamplingParams(temperature=0, logit_bias={1: -1e9, 2: -1e9, 3: -1e9})
RNG = np.random.default_rng(3)
FIRST, SECOND, FOLLOW_UP = (RNG.integers(500, 4000, size).tolist() for size in (300, 300, 30))


class Talk:
    """An engine as its process runs it. `max_idle_cells`: cells of resting prefixes."""

    def __init__(self, runner: LlamaRunner, max_offloaded: int) -> None:
        self.scheduler = Scheduler(runner.limits, runner.end_tokens)
        self.offload = KVOffload(self.scheduler, runner, max_offloaded, max_idle_cells=100)
        self._engine = Engine(self.scheduler, runner, 0, prefill_budget=PrefillBudget(runner.limits.n_batch))
        self._next_id = 0

    def answer(self, prompt: list[int]) -> tuple[list[int], int]:
        """Twenty tokens, and how many of the prompt's needed no computing."""
        self._next_id += 1
        assert not self._engine.add(Generate(self._next_id, prompt, 20, TALKS_ON))
        tokens, num_cached = [], 0
        while not self._engine.is_idle:
            self.offload.before_step()
            for delta in self._engine.step():
                tokens, num_cached = tokens + delta.tokens, delta.num_cached
        return tokens, num_cached


@contextmanager
def talk(max_offloaded: int) -> Iterator[Talk]:
    with LlamaRunner(BUILTIN, EngineParams(n_ctx=1024, n_threads=1)) as runner:
        yield Talk(runner, max_offloaded)


def test_a_conversation_that_rested_aside_goes_on_where_it_was() -> None:
    with talk(max_offloaded=1000) as told, talk(max_offloaded=0) as kept_in_place:
        for each in (told, kept_in_place):
            assert each.answer(FIRST)[1] == 0
            each.answer(SECOND)
        assert told.scheduler.num_resident(FIRST) == 0
        assert kept_in_place.scheduler.num_resident(FIRST) == len(FIRST)
        again = told.answer(FIRST + FOLLOW_UP)
        assert again == kept_in_place.answer(FIRST + FOLLOW_UP)
        assert again[1] == len(FIRST)


def test_what_is_set_aside_has_its_limit_and_the_oldest_goes() -> None:
    with talk(max_offloaded=700) as told:
        for prompt in (FIRST, SECOND, SECOND[::-1], FOLLOW_UP):
            told.answer(prompt)
        assert told.offload.match([*FIRST, 1]) == 0
        assert told.offload.match([*SECOND, 1]) == len(SECOND)


def test_one_conversation_alone_is_never_moved() -> None:
    with talk(max_offloaded=1000) as told:
        told.answer(FIRST)
        told.answer(FIRST + FOLLOW_UP)
        assert not told.offload.prefixes(hot=False)
