"""Prove that generated requests, valid and invalid, are answered as the OpenAPI document says, and never by a 5xx.

    .venv/bin/python scripts/prove/fuzz.py [--cases 20000] [--seed 1]

A real server with the built-in model. schemathesis generates requests for every operation, in rounds of 100, until
there were `--cases`. Each reply must have a status, a content type and a body that the document describes, and a status
below 500. Afterwards the server must be healthy, run the processes that it started with, and have logged nothing but
the reloads that were requested. The exit status is 1 when one of these fails. Needs `pip install '.[develop,clients]'`.
"""

import argparse
import sys
import time
from collections import Counter

import proof
from fuzzing import fuzz, operations
from real_server import Server

_ROUND = 100  # cases of each operation
_LOGGED_BY_RELOAD = "Indexing "


def prove(server: Server, num_cases: int, seed: int) -> list[str]:
    """Return what does not hold."""
    pids, log = proof.process_ids(server), server.log.read_text()
    all_operations = list(operations(server.url))
    counts = Counter[str]()
    while counts.total() < num_cases:
        counts += fuzz(all_operations, _ROUND, seed)
        seed += 1
    for reply, count in sorted(counts.items()):
        print(f"{count:7} {reply}")
    print(f"{counts.total():7} in all", flush=True)
    problems = []
    if not server.is_healthy() or not pids <= proof.process_ids(server):
        problems.append("a process died")
    lines = server.log.read_text()[len(log) :].splitlines()
    return problems + [f"logged: {line}" for line in lines if line and not line.startswith(_LOGGED_BY_RELOAD)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    proof.print_machine()
    started = time.monotonic()
    with proof.serve_handbook() as server:
        problems = prove(server, options.cases, options.seed)
    print(f"{time.monotonic() - started:.0f} s")
    return proof.exit_status(problems)


if __name__ == "__main__":
    sys.exit(main())
