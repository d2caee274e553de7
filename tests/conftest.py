"""Fixtures of all tests: one real server for the tests that change nothing in it, and this process's logging."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from running import Server, serving, write_handbook


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited from a shell that runs this in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
