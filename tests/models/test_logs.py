"""What is logged: lines for programs and for people, without a word of what was being worked on."""

import json
import logging
import sys
import threading

import pytest

from models.logs import LogConfig, LogFormat, start_logging

CANARY = "the canary " + "sings"


pytestmark = pytest.mark.usefixtures("logging_anew")


def test_lines_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(LogConfig("info", "json"))
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
    start_logging(LogConfig("warning", "text"))
    logging.getLogger("server.test").info("below the level")
    logging.getLogger("server.test").warning("the disk is full")
    assert capsys.readouterr().err == "WARNING: the disk is full\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_word_of_what_was_being_worked_on(capsys: pytest.CaptureFixture[str], form: LogFormat) -> None:
    start_logging(LogConfig("debug", form))
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise ValueError(CANARY) from error
    except ValueError as error:
        logging.getLogger("server.test").error("unexpected", exc_info=error)
        logging.getLogger("asyncio").error("Task exception was never retrieved\n%r", error, exc_info=error)
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error)
        logging.getLogger("library").warning(f"not valid: {error}")
        logging.getLogger("library").warning("not valid: %s", error)
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=[].index, args=(CANARY,))
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert CANARY not in said
    for kept in ("ValueError", "unexpected", "never retrieved", "Exception in ASGI", "library: not valid: %s"):
        assert kept in said
    if form == "text":
        assert "test_logs.py" in said and "KeyError" in said


def test_a_name_cannot_make_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(LogConfig())
    logging.getLogger("index.ingest.files").warning("passed over: %s", "a\r\nERROR: all is lost\x1b[2J")
    assert capsys.readouterr().err == "WARNING: passed over: a\\x0d\\x0aERROR: all is lost\\x1b[2J\n"


def test_what_is_started_logs_likewise() -> None:
    for manner in (LogConfig("info", "json"), LogConfig("error", "text")):
        start_logging(manner)
        assert LogConfig.of_this_process() == manner
