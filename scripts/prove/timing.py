"""How long a key takes to be refused does not tell how much of it is right.

    .venv/bin/python scripts/prove/timing.py [--times 20000]

A file of twenty keys. In turns, one is looked for that is wrong from its first character on, and one that is right but
for its last. From the times in this process, without a network between, which only blurs them, the best guess by a
threshold is made of which is which: the area under the curve is .5 for a guess, and must be at most .55. A control,
which compares character by character, must be told by it. Ends with status 1 when something of this does not hold.
"""

import argparse
import gc
import platform
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from server.access.keys import Role
from server.storage.local.keys import KeyFile

_MOST = 0.55


def area(slow: np.ndarray, fast: np.ndarray) -> float:
    """Of all pairs, in how many the first takes longer: Mann and Whitney's U, scaled."""
    ranks = np.argsort(np.argsort(np.concatenate([slow, fast]), kind="stable"), kind="stable") + 1
    wins = ranks[: len(slow)].sum() - len(slow) * (len(slow) + 1) / 2
    return float(wins / (len(slow) * len(fast)))


def measured(look: Callable[[str], object], nearly: str, wrong: str, times: int) -> float:
    """The area, either way round."""
    taken: dict[str, list[int]] = {nearly: [], wrong: []}
    order = [nearly, wrong] * times
    random.Random(1).shuffle(order)
    gc.disable()
    for text in order:
        started = time.perf_counter_ns()
        look(text)
        taken[text].append(time.perf_counter_ns() - started)
    gc.enable()
    found = area(np.array(taken[nearly]), np.array(taken[wrong]))
    return max(found, 1 - found)


def character_by_character(secret: str) -> Callable[[str], bool]:
    def look(text: str) -> bool:
        return all(a == b for a, b in zip(secret, text, strict=False))

    return look


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = KeyFile(Path(folder))
        keys = [file.create(f"key{number}", Role.READ, None, None, None)[1] for number in range(20)]
        right = keys[10]
        nearly = right[:-1] + ("a" if right[-1] != "a" else "b")
        wrong = "x" * len(right)
        found = measured(file.find, nearly, wrong, options.times)
        control = measured(character_by_character(right), nearly, wrong, options.times)
    print(f"{platform.machine()}: area {found:.3f} (at most {_MOST}); a control that compares naively {control:.3f}")
    return int(found > _MOST or control <= _MOST)


if __name__ == "__main__":
    raise SystemExit(main())
