"""Ten thousand random conversations: no turn of a user's is ever dropped, and what was said stays as it was.

    .venv/bin/python scripts/prove/conversations.py [--conversations 10000] [--seed 1]

Made-up passages and a model whose tokens are characters, so that contexts are always too small; clients that edit,
branch and forget. What is checked of every prompt is in tests/server/conversing.py.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.server.conversing import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), options.seed, options.conversations)
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    print(f"{options.conversations:,} conversations, all of it holds: {told}; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
