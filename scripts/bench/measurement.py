"""Shared parts of the measurements: taking turns, percentiles, processes, and reports.

`import measurement` makes the modules of tests/e2e importable. Plain imports are sorted before `from` imports, so it
runs before those.
"""

import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "e2e"))

T = TypeVar("T")


class Percentiles(NamedTuple):
    p50: float
    p95: float


def percentiles(values: Sequence[float]) -> Percentiles:
    p50, p95 = np.percentile(values, [50, 95])
    return Percentiles(float(p50), float(p95))


def take_turns(contenders: Sequence[T], rounds: int) -> Iterator[T]:
    """Yield all contenders in each round, in alternating order, so that drift of the machine affects all alike."""
    for number in range(rounds):
        yield from contenders[:: 1 if number % 2 else -1]


def resident_mib() -> float:
    """Return the resident memory of this process, NaN where /proc does not have it."""
    with contextlib.suppress(OSError):
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    return float("nan")


def print_machine() -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)


def write_results(out: Path | None, results: Any) -> None:
    """Write results as JSON, if a file was named."""
    if out:
        out.write_text(json.dumps(results, indent=1))
