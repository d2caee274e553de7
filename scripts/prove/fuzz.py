"""Requests made up from the OpenAPI document, right and wrong ones, are answered as the document says, never by a 5xx.

    .venv/bin/python scripts/prove/fuzz.py [--cases 20000] [--seed 1]

A real server with the built-in model. schemathesis makes the requests of every operation, in rounds of 100, until there
were as many as asked for. Each reply must have a status, a content type and a body that the document knows, and below
500. Afterwards the server must be in good health, with the processes it began with, and have logged nothing. Ends with
status 1 when something of this does not hold. Needs `pip install '.[develop,clients]'`.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

_TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(_TESTS / "e2e"), str(_TESTS / "clients")]

from fuzzing import fuzz, operations  # noqa: E402
from running import Server, children, serving, write_handbook  # noqa: E402

_ROUND = 100  # cases of each operation


def prove(server: Server, num_cases: int, seed: int) -> list[str]:
    """What does not hold."""
    before = {pid for pid, _ in children(server.process.pid)}
    log = server.log.read_text()
    found = list(operations(server.url))
    counts = Counter[str]()
    while counts.total() < num_cases:
        counts += fuzz(found, _ROUND, seed)
        seed += 1
    for told, number in sorted(counts.items()):
        print(f"{number:7} {told}")
    print(f"{counts.total():7} in all", flush=True)
    problems = []
    if not server.is_healthy() or not before <= {pid for pid, _ in children(server.process.pid)}:
        problems.append("a process died")
    if server.log.read_text() != log:
        problems.append(f"the log says: {server.log.read_text()[len(log) :]}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, write_handbook(folder / "handbook")) as server:
            problems = prove(server, options.cases, options.seed)
    print(f"{time.monotonic() - started:.0f} s")
    print("\n".join(problems) or "all of it holds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
