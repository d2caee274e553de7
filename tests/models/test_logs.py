"""Log lines, as JSON and as text, hold no content of documents."""

import json
import logging
import sys
import threading

import pytest

from models.logs import LogConfig, LogFormat, configure_logging

CANARY = "the canary " + "sings"


pytestmark = pytest.mark.usefixtures("logging_anew")


def test_json_lines_have_level_source_message_and_error_type(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig("info", "json"))
    log = logging.getLogger("server.test")
    log.debug("below the level")
    log.warning("the disk\nis %s", "full")
    try:
        raise ValueError("secret")
    except ValueError:
        log.exception("unexpected")
    lines = capsys.readouterr().err.splitlines()
    records = [json.loads(line) for line in lines]
    assert [(each["level"], each["source"], each["message"]) for each in records] == [
        ("warning", "server.test", "the disk\nis full"),
        ("error", "server.test", "unexpected"),
    ]
    assert records[1]["error"] == "ValueError"
    assert "secret" not in lines[1]
    assert all(each["at"] > 1_700_000_000 for each in records)


def test_text_lines_have_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig("warning", "text"))
    logging.getLogger("server.test").info("below the level")
    logging.getLogger("server.test").warning("the disk is full")
    assert capsys.readouterr().err == "WARNING: the disk is full\n"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_message_of_an_exception_or_argument_of_a_library_is_logged(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    configure_logging(LogConfig("debug", log_format))
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
    output = capsys.readouterr().err
    assert CANARY not in output
    for expected in ("ValueError", "unexpected", "never retrieved", "Exception in ASGI", "library: not valid: %s"):
        assert expected in output
    if log_format == "text":
        assert "test_logs.py" in output and "KeyError" in output


def test_control_characters_in_file_names_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig())
    logging.getLogger("index.ingest.files").warning("passed over: %s", "a\r\nERROR: all is lost\x1b[2J")
    assert capsys.readouterr().err == "WARNING: passed over: a\\x0d\\x0aERROR: all is lost\\x1b[2J\n"


def test_log_config_of_this_process_is_the_one_that_was_configured() -> None:
    for config in (LogConfig("info", "json"), LogConfig("error", "text")):
        configure_logging(config)
        assert LogConfig.of_this_process() == config
