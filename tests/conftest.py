"""Fixtures of all tests: one real server for the tests that change nothing in it, and this process's logging."""

import logging
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_server import Server, serving, write_handbook


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited from a shell that runs this in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files that start real servers evenly among the others, which `scripts/test` relies on.

    Two workers that take files in this order seldom run two servers at once, and neither gets a long file last.
    """
    files = defaultdict[Path, list[pytest.Item]](list)
    for item in items:
        files[item.path].append(item)
    real, other = [], []
    for path, group in files.items():
        (real if any(item.get_closest_marker("e2e") for item in group) else other).append(path)
    positions = {
        path: (at + shift) / len(paths) for paths, shift in ((real, 0.0), (other, 0.5)) for at, path in enumerate(paths)
    }
    items[:] = [item for path in sorted(files, key=positions.__getitem__) for item in files[path]]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, write_handbook(folder / "handbook")) as running:
        yield running


@pytest.fixture
def logging_anew() -> Iterator[None]:
    """Restore the process's logging after the test."""
    root = logging.getLogger()
    before, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = raises
