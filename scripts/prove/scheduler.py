"""The scheduler over a million random steps, beside a model of llama.cpp's memory.

    .venv/bin/python scripts/prove/scheduler.py [--steps 1000000] [--seed 1]

Worlds of random size, half of them with a recurrent model's memory, each some thousand steps: requests with shared
beginnings come from several clients in two priorities, some constrained, are cancelled in the queue, while their prompt
is read and while they are answered; batches fail; prefixes go to disk and come back; little memory makes them wait.
After every step the integrity of scheduler, cache and memory is checked, and that each chunk was computed on exactly
the tokens its sequence has; every answer is compared with what the model says alone; then the world is emptied, so that
nobody waits for ever. Ends with status 1 at the first thing that does not hold, and says the seed.
"""

import argparse
import os
import platform
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from models.llm.scheduler import Limits
from models.llm.sequence import Priority
from tests.models.scheduling import World

_STEPS_OF_A_WORLD = 2000


def world_of(random: random.Random) -> World:
    is_divisible = random.random() < 0.5
    n_slots, n_ctx = random.randint(1, 6), random.choice([random.randint(2, 12), random.randint(40, 64)])
    n_cells = (1 if is_divisible else 2) * n_ctx + random.randint(0, 96)
    return World(Limits(n_slots, random.randint(0, 6), n_slots + random.randint(0, 16), n_cells, n_ctx, is_divisible))


def come(world: World, random: random.Random) -> None:
    choices = [[random.randint(1, 3) for _ in range(random.randint(0, 6))] for _ in range(random.randint(1, 3))]
    sequence = world.sequence(
        random.randrange(40),
        [random.randint(1, 3) for _ in range(random.randint(1, 8))],
        random.randint(1, 40),
        choices if random.random() < 0.2 else None,
        random.choice("abc"),
        random.choice(list(Priority)),
    )
    if sequence.num_prompt < world.limits.n_ctx:
        world.add(sequence)


def live(world: World, random: random.Random, num_steps: int, counts: Counter[str]) -> None:
    """So many steps, and until everyone has ended."""
    busyness = random.choice([0.05, 0.2, 0.6])
    for _ in range(num_steps):
        while not world.live or (random.random() < busyness and len(world.live) < 20):
            come(world, random)
        chance = random.random()
        if chance < 0.02:
            world.cancel(random.choice(world.live), is_trusted=random.random() < 0.5)
            counts["cancelled"] += 1
        elif chance < 0.025:
            world.fail()
            counts["failed batches"] += 1
        elif chance < 0.04:
            world.save(random.randrange(20))
        elif chance < 0.05 and world.saved:
            world.restore(random.randrange(20), random.randint(0, 64))
            counts["restored"] += 1
        if world.live:
            running = [sequence for sequence in world.live if sequence.lease]
            world.step(random.choice([None, 1, 4, 8]))
            counts["preempted"] += sum(not each.lease for each in running if each.finish_reason is None)
        counts["longest queue"] = max(counts["longest queue"], world.scheduler.num_waiting)
        del world.beginnings[4:-40], world.saved[:-10]
    world.finish()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    counts: Counter[str] = Counter()
    started, seed = time.perf_counter(), options.seed
    while counts["steps"] < options.steps:
        generator = random.Random(seed)
        world = world_of(generator)
        num_steps = min(_STEPS_OF_A_WORLD, options.steps - counts["steps"])
        try:
            live(world, generator, num_steps, counts)
        except AssertionError:
            traceback.print_exc()
            print(f"does not hold: --seed {seed} --steps {num_steps}, {world.limits}")
            return 1
        counts += Counter(steps=num_steps, ended=world.num_ended, worlds=1)
        counts["cached tokens"] += world.num_cached
        seed += 1
    print(", ".join(f"{value:,} {name}" for name, value in counts.items()))
    print(f"all of it holds; {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
