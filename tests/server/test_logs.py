"""Lines for programs are JSON, one each, and hold no traceback."""

import json
import logging
from collections.abc import Iterator

import pytest

from server.logs import start_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_lines_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("info", "json")
    log = logging.getLogger("server.test")
    log.debug("below the level")
    log.warning("the disk\nis %s", "full")
    try:
        raise ValueError("secret")
    except ValueError:
        log.exception("unexpected")
    lines = capsys.readouterr().err.splitlines()
    told = [json.loads(line) for line in lines]
    assert [(each["level"], each["source"], each["message"]) for each in told] == [
        ("warning", "server.test", "the disk\nis full"),
        ("error", "server.test", "unexpected"),
    ]
    assert told[1]["error"] == "ValueError"
    assert "secret" not in lines[1]
    assert all(each["at"] > 1_700_000_000 for each in told)


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("warning", "text")
    logging.getLogger("server.test").info("below the level")
    logging.getLogger("server.test").warning("the disk is full")
    assert capsys.readouterr().err == "WARNING: the disk is full\n"
