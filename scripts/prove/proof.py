"""Shared parts of the proofs: the server they test, waiting, processes, and reports.

`import proof` makes the modules of tests/e2e and tests/clients, and the package `tests`, importable. Plain imports are
sorted before `from` imports, so it runs before those.
"""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "clients"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "e2e"))

from real_server import HANDBOOK, Server, children, serving, wait_until, write_handbook

from models.catalog import resolve_embedding
from models.encoder.messages import ModelFiles
from models.encoder.model_exports import ModelExports
from server.settings.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serve_handbook() -> Iterator[Server]:
    """Run `cloister serve` in a temporary folder, and yield it once it has indexed the handbook of the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, write_handbook(folder / "handbook")) as server:
            wait_until(lambda: is_indexed(server), 60, "the index of the handbook")
            yield server


def is_indexed(server: Server) -> bool:
    status = server.status()
    return status["documents"] == len(HANDBOOK) and not status["pending"]


def process_ids(server: Server) -> set[int]:
    """Return the ids of the server and of its children."""
    return {server.process.pid, *(pid for pid, _ in children(server.process.pid))}


def warnings(server: Server) -> list[str]:
    """Return the lines of the server's log that are warnings or errors."""
    return [line for line in server.log.read_text().splitlines() if line.startswith(("WARN", "ERR"))]


async def default_embedder_files() -> ModelFiles:
    """Return the files of the default embedding model, converted where that is configured."""
    settings = Settings()
    exports = ModelExports(settings.cache_folder, settings.encoder.runtime)
    return await exports.files(resolve_embedding(settings.embedder), "embedding")


def holds_within(timeout_s: float, condition: Callable[[], bool]) -> bool:
    """Wait until the condition holds; return False after the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def print_machine() -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)


def exit_status(problems: Sequence[str]) -> int:
    """Print the problems, or that there are none, and return the exit status."""
    print("\n".join(problems) or "all checks hold")
    return 1 if problems else 0
