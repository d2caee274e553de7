"""Prove over random conversations that no user's turn is ever dropped, and that earlier prompts stay as they were.

    .venv/bin/python scripts/prove/conversations.py [--conversations 10000] [--seed 1]

Generated passages, and a model whose tokens are characters, so that contexts are always too small; clients edit, branch
and restart conversations. tests/server/random_conversations.py checks every prompt.
"""

import argparse
import tempfile
import time
from pathlib import Path

import proof

from tests.server.random_conversations import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    proof.print_machine()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), options.seed, options.conversations)
    figures = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    print(f"{options.conversations:,} conversations, all checks hold: {figures}; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
