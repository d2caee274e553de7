"""Logging to standard error: warnings and errors, for people or for programs, without any content of documents.

An exception's message may quote the text that was being worked on, and so may a line that a library logs. So of an
exception only its type and traceback are logged, not its message; of a library's line only the format string without
its arguments. Lines of this project hold names of files and folders, with control characters made visible.
"""

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Literal, Self

import msgspec

LogFormat = Literal["text", "json"]

OWN_PACKAGES = frozenset({"server", "models", "index", "__main__"})
_LITERAL_LIBRARIES = {"asyncio", "uvicorn"}  # the first line of their messages is the same whatever the content
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_WITHHELD = "(its message is withheld: it may hold content)"


class _JsonLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """`at`: Unix seconds. `error`: the type of the exception that was logged with the line."""

    at: float
    level: str
    source: str
    message: str
    error: str = ""


class _TextFormatter(logging.Formatter):
    log_format: LogFormat = "text"

    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname}: {_message(record).translate(_VISIBLE)}"
        if record.exc_info and record.exc_info[1] is not None:
            line += f"\n{format_exception_types(record.exc_info[1])}"
        return line


class _JsonFormatter(logging.Formatter):
    log_format: LogFormat = "json"

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        line = _JsonLine(round(record.created, 3), record.levelname.lower(), record.name, _message(record), error)
        return msgspec.json.encode(line).decode()


def _message(record: logging.LogRecord) -> str:
    package = record.name.partition(".")[0]
    if package in OWN_PACKAGES:
        return record.getMessage()
    is_without_content = bool(record.args) or package in _LITERAL_LIBRARIES
    text = str(record.msg).partition("\n")[0] if is_without_content else _WITHHELD
    return f"{record.name}: {text}"


def format_exception_types(error: BaseException | None) -> str:
    """Return the tracebacks and types of an exception and its causes, without their messages."""
    chain, each = list[BaseException](), error
    while each is not None and each not in chain:
        chain.append(each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    parts = ("".join(traceback.format_tb(each.__traceback__)) + type(each).__name__ for each in reversed(chain))
    return "\n\n".join(parts)


class LogConfig(msgspec.Struct, frozen=True):
    """How a process logs; its children log in the same way. `level`: debug, info, warning or error."""

    level: str = "warning"
    format: LogFormat = "text"

    @classmethod
    def of_this_process(cls) -> Self:
        root = logging.getLogger()
        for handler in root.handlers:
            if isinstance(handler.formatter, (_TextFormatter, _JsonFormatter)):
                return cls(logging.getLevelName(root.level).lower(), handler.formatter.log_format)
        return cls()


def configure_logging(config: LogConfig) -> None:
    """Set up logging for the process, in place of what was set up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if config.format == "json" else _TextFormatter())
    logging.raiseExceptions = False  # a line that cannot be written would be printed with its arguments
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    sys.excepthook = _log_unhandled
    threading.excepthook = lambda args: _log_unexpected(args.exc_value)
    sys.unraisablehook = lambda args: _log_unexpected(args.exc_value)


def _log_unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, KeyboardInterrupt):
        _log_unexpected(error)


def _log_unexpected(error: BaseException | None) -> None:
    logging.getLogger(__name__).error("unexpected %s", type(error).__name__, exc_info=error)
