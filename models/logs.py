"""What goes to standard error: warnings and errors, for people or for programs. Never a word of content.

What an exception says may quote what was being worked on, and what a library logs may too. So of an exception there is
its kind and where it came from, not its words; of a library's line the words without the values, where they can be told
apart. Our own lines hold names of files and folders, with control characters made visible.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

import msgspec

LogFormat = Literal["text", "json"]

OURS = frozenset({"server", "models", "index", "__main__"})  # packages
_PLAIN = {"asyncio", "uvicorn"}  # the first lines of theirs are the same whatever happens
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_KEPT_BACK = "(what it says is kept back: it may hold content)"


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """`at`: Unix seconds. `error`: the kind of an exception that goes with it."""

    at: float
    level: str
    source: str
    message: str
    error: str = ""


class _Text(logging.Formatter):
    form: LogFormat = "text"

    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname}: {_message(record).translate(_VISIBLE)}"
        if record.exc_info and record.exc_info[1] is not None:
            line += f"\n{told(record.exc_info[1])}"
        return line


class _Json(logging.Formatter):
    form: LogFormat = "json"

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        line = _Line(round(record.created, 3), record.levelname.lower(), record.name, _message(record), error)
        return msgspec.json.encode(line).decode()


def _message(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] in OURS:
        return record.getMessage()
    is_bare = bool(record.args) or record.name.partition(".")[0] in _PLAIN
    text = str(record.msg).partition("\n")[0] if is_bare else _KEPT_BACK
    return f"{record.name}: {text}"


def told(error: BaseException | None) -> str:
    """Where an exception came from and of what kind it is, with those it came from; not what it says."""
    chain, each = list[BaseException](), error
    while each is not None and each not in chain:
        chain.append(each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    parts = ("".join(traceback.format_tb(each.__traceback__)) + type(each).__name__ for each in reversed(chain))
    return "\n\n".join(parts)


class LogConfig(msgspec.Struct, frozen=True):
    """How a process logs; those it starts do likewise. `level`: debug, info, warning or error."""

    level: str = "warning"
    form: LogFormat = "text"

    @classmethod
    def of_this_process(cls) -> Self:
        root = logging.getLogger()
        forms: Sequence[LogFormat] = [
            h.formatter.form for h in root.handlers if isinstance(h.formatter, (_Text, _Json))
        ]
        return cls(logging.getLevelName(root.level).lower(), forms[0]) if forms else cls()


def start_logging(manner: LogConfig) -> None:
    """For the process; what was set up before is replaced."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if manner.form == "json" else _Text())
    logging.raiseExceptions = False  # a line that cannot be written would be told with its values
    logging.basicConfig(level=manner.level.upper(), handlers=[handler], force=True)
    sys.excepthook = _unhandled
    threading.excepthook = lambda raised: _note(raised.exc_value)
    sys.unraisablehook = lambda raised: _note(raised.exc_value)


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, KeyboardInterrupt):
        _note(error)


def _note(error: BaseException | None) -> None:
    logging.getLogger(__name__).error("unexpected %s", type(error).__name__, exc_info=error)
