"""The scheduler under adding, cancelling and stepping in any order, with a simulation of llama.cpp's memory."""

from collections import Counter
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from models.llm.engine.step import Limits
from models.llm.params import Priority
from tests.models.scheduler_simulation import (
    Simulation,
    random_simulation,
    run_randomly,
)


class SchedulerMachine(RuleBasedStateMachine):
    """Any order of adding, cancelling and stepping: every request ends, with the answer that it gets alone."""

    supports_partial_removal = True

    @initialize(
        num_slots=st.integers(1, 4),
        num_cached_prefixes=st.integers(0, 3),
        more_batch=st.integers(0, 12),
        n_ctx=st.integers(2, 12) | st.integers(40, 64),
        more_cells=st.integers(0, 64),
    )
    def start(self, num_slots: int, num_cached_prefixes: int, more_batch: int, n_ctx: int, more_cells: int) -> None:
        num_cells = (1 if self.supports_partial_removal else 2) * n_ctx + more_cells
        self.simulation = Simulation(
            Limits(
                num_slots, num_cached_prefixes, num_slots + more_batch, num_cells, n_ctx, self.supports_partial_removal
            )
        )

    @rule(
        prefix=st.integers(0, 20),
        rest=st.lists(st.integers(1, 3), min_size=1, max_size=8),
        max_tokens=st.integers(1, 40),
        choices=st.none() | st.lists(st.lists(st.integers(1, 3), max_size=6), min_size=1, max_size=3),
        client=st.sampled_from("ab"),
        priority=st.sampled_from(Priority),
    )
    def add(
        self,
        prefix: int,
        rest: list[int],
        max_tokens: int,
        choices: list[list[int]] | None,
        client: str,
        priority: Priority,
    ) -> None:
        sequence = self.simulation.sequence(prefix, rest, max_tokens, choices, client, priority)
        if sequence.num_prompt >= self.simulation.limits.n_ctx:
            with pytest.raises(ValueError, match="room"):
                self.simulation.scheduler.add(sequence)
        else:
            self.simulation.add(sequence)

    @precondition(lambda self: self.simulation.unfinished)
    @rule(data=st.data(), discard=st.booleans())
    def cancel(self, data: st.DataObject, discard: bool) -> None:
        self.simulation.cancel(data.draw(st.sampled_from(self.simulation.unfinished)), discard=discard)

    @precondition(lambda self: self.simulation.unfinished)
    @rule(max_prefill=st.none() | st.integers(1, 8))
    def step(self, max_prefill: int | None) -> None:
        self.simulation.step(max_prefill)

    @precondition(lambda self: self.simulation.unfinished)
    @rule()
    def fail(self) -> None:
        self.simulation.fail()

    @rule(which=st.integers(0, 20))
    def store(self, which: int) -> None:
        self.simulation.store(which)

    @rule(which=st.integers(0, 20), num_tokens=st.integers(0, 64))
    def restore(self, which: int, num_tokens: int) -> None:
        self.simulation.restore(which, num_tokens)

    def teardown(self) -> None:
        if hasattr(self, "simulation"):
            self.simulation.finish()


class RecurrentMachine(SchedulerMachine):
    """A scheduler machine with a recurrent model's memory, which is copied and removed as a whole."""

    supports_partial_removal = False


SETTINGS = settings(max_examples=100, stateful_step_count=40, deadline=None)
SchedulerMachine.TestCase.settings = RecurrentMachine.TestCase.settings = SETTINGS
TestAnyOrderOfAddingCancellingAndStepping = SchedulerMachine.TestCase
TestAnyOrderWithRecurrentMemory = RecurrentMachine.TestCase


@pytest.mark.parametrize("supports_partial_removal", [True, False], ids=["attention", "recurrent"])
def test_thousands_of_random_steps_in_simulations_of_any_size(supports_partial_removal: bool) -> None:
    """scripts/prove/scheduler.py runs a million steps."""
    counts = Counter[str]()
    for seed in range(10):
        random = Random(seed)
        simulation = random_simulation(random, supports_partial_removal=supports_partial_removal)
        run_randomly(simulation, random, 1000)
        counts += simulation.counts
    assert counts["ended"] > 1000
    assert min(counts[name] for name in ("preempted", "drafted tokens", "stored", "restored", "failed batches")) > 0
    assert supports_partial_removal == (counts["loaded"] > counts["restored"])
