"""The scheduler over a million random steps, beside a model of llama.cpp's memory.

    .venv/bin/python scripts/prove/scheduler.py [--steps 1000000] [--seed 1]

Worlds of random size, every other one with a recurrent model's memory, each some thousand steps: requests with shared
beginnings come from several clients in three priorities, some constrained, are cancelled in the queue, while their
prompt is read and while they are answered; batches fail; prefixes go to disk and come back; little memory makes them
wait.
After every step the integrity of scheduler, cache and memory is checked, and that each chunk was computed on exactly
the tokens its sequence has; every answer is compared with what the model says alone; then the world is emptied, so that
nobody waits for ever. Ends with status 1 at the first thing that does not hold, and says the seed.
"""

import argparse
import os
import platform
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.models.scheduling import live, random_world

_STEPS_OF_A_WORLD = 2000


def prove(seed: int, num_steps: int, *, supports_partial_removal: bool) -> Counter[str] | None:
    """What happened in one world; None when something did not hold, which is printed."""
    random = Random(seed)
    world = random_world(random, supports_partial_removal=supports_partial_removal)
    try:
        live(world, random, num_steps)
    except AssertionError:
        traceback.print_exc()
        print(f"does not hold: seed {seed}, {num_steps} steps, {world.limits}")
        return None
    return world.counts


def add(total: Counter[str], counts: Counter[str]) -> None:
    for name, count in counts.items():
        total[name] = max(total[name], count) if "longest" in name else total[name] + count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    totals: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    started, seed = time.perf_counter(), options.seed
    while (done := sum(total["steps"] for total in totals.values())) < options.steps:
        supports_partial_removal = seed % 2 == 0
        counts = prove(
            seed, min(_STEPS_OF_A_WORLD, options.steps - done), supports_partial_removal=supports_partial_removal
        )
        if counts is None:
            return 1
        add(totals[supports_partial_removal], counts + Counter(worlds=1))
        seed += 1
    for supports_partial_removal, total in totals.items():
        print(
            "attention:" if supports_partial_removal else "recurrent:",
            ", ".join(f"{n:,} {name}" for name, n in total.items()),
        )
    seconds = time.perf_counter() - started
    print(f"all of it holds; {seconds:.0f} s, {done / seconds:,.0f} steps a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
