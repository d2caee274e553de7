"""Prove the scheduler over a million random steps, with a simulation of llama.cpp's memory.

    .venv/bin/python scripts/prove/scheduler.py [--steps 1000000] [--seed 1]

Simulations of random size, every other one with a recurrent model's memory, run some thousand steps each. Requests with
common prefixes come from several clients with three priorities, some with constraints; they are cancelled while they
wait, in prefill and in decode; batches fail; prefixes are written to disk and restored; memory is short.
After every step the integrity of scheduler, cache and memory is checked, and that each chunk was computed on exactly
the tokens of its sequence. Every answer is compared with the one that the model gives alone. At the end all requests
must finish. The exit status is 1 at the first check that does not hold; the seed is printed.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from random import Random

import proof

from tests.models.scheduler_simulation import random_simulation, run_randomly

_STEPS_PER_SIMULATION = 2000


def prove(seed: int, num_steps: int, *, supports_partial_removal: bool) -> Counter[str] | None:
    """Run one simulation and return its counts; None when a check did not hold, which is printed."""
    random = Random(seed)
    simulation = random_simulation(random, supports_partial_removal=supports_partial_removal)
    try:
        run_randomly(simulation, random, num_steps)
    except AssertionError:
        traceback.print_exc()
        print(f"does not hold: seed {seed}, {num_steps} steps, {simulation.limits}")
        return None
    return simulation.counts


def add(total: Counter[str], counts: Counter[str]) -> None:
    for name, count in counts.items():
        total[name] = max(total[name], count) if "longest" in name else total[name] + count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    proof.print_machine()
    totals: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    started, seed = time.perf_counter(), options.seed
    while (done := sum(total["steps"] for total in totals.values())) < options.steps:
        supports_partial_removal = seed % 2 == 0
        counts = prove(
            seed, min(_STEPS_PER_SIMULATION, options.steps - done), supports_partial_removal=supports_partial_removal
        )
        if counts is None:
            return 1
        add(totals[supports_partial_removal], counts + Counter(simulations=1))
        seed += 1
    for supports_partial_removal, total in totals.items():
        print(
            "attention:" if supports_partial_removal else "recurrent:",
            ", ".join(f"{n:,} {name}" for name, n in total.items()),
        )
    seconds = time.perf_counter() - started
    print(f"all checks hold; {seconds:.0f} s, {done / seconds:,.0f} steps a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
