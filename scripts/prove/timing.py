"""Prove that the time it takes to refuse a key does not depend on how much of the key is right.

    .venv/bin/python scripts/prove/timing.py [--times 20000]

A file of twenty keys. Two wrong keys are looked up in random order: one wrong from its first character on, and one that
differs in its last character only. The times are measured in this process, without the noise of a network. The area
under the ROC curve of telling the two apart by a threshold is .5 for guessing, and must be at most .55. As a control, a
comparison character by character must exceed that. The exit status is 1 when one of these fails.
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

_MAX_AREA = 0.55


def area(slow: np.ndarray, fast: np.ndarray) -> float:
    """Return the share of pairs in which the first takes longer: the Mann-Whitney U statistic, scaled to 0 to 1."""
    ranks = np.argsort(np.argsort(np.concatenate([slow, fast]), kind="stable"), kind="stable") + 1
    wins = ranks[: len(slow)].sum() - len(slow) * (len(slow) + 1) / 2
    return float(wins / (len(slow) * len(fast)))


def measure(look_up: Callable[[str], object], nearly: str, wrong: str, times: int) -> float:
    """Return the area under the curve, from .5 to 1, whichever of the two takes longer."""
    durations: dict[str, list[int]] = {nearly: [], wrong: []}
    order = [nearly, wrong] * times
    random.Random(1).shuffle(order)
    gc.disable()
    for text in order:
        started = time.perf_counter_ns()
        look_up(text)
        durations[text].append(time.perf_counter_ns() - started)
    gc.enable()
    value = area(np.array(durations[nearly]), np.array(durations[wrong]))
    return max(value, 1 - value)


def character_by_character(secret: str) -> Callable[[str], bool]:
    def compare(text: str) -> bool:
        return all(a == b for a, b in zip(secret, text, strict=False))

    return compare


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
        result = measure(file.find, nearly, wrong, options.times)
        control = measure(character_by_character(right), nearly, wrong, options.times)
    print(f"{platform.machine()}: area {result:.3f} (at most {_MAX_AREA}), control {control:.3f}")
    return int(result > _MAX_AREA or control <= _MAX_AREA)


if __name__ == "__main__":
    raise SystemExit(main())
