"""What goes to standard error: warnings and errors, for people or for programs. Never a word of content."""

import logging
from typing import Literal

import msgspec

Form = Literal["text", "json"]


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """`at`: Unix seconds. `error`: the kind of an exception that goes with it."""

    at: float
    level: str
    source: str
    message: str
    error: str = ""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        line = _Line(round(record.created, 3), record.levelname.lower(), record.name, record.getMessage(), error)
        return msgspec.json.encode(line).decode()


def start_logging(level: str, form: Form) -> None:
    """For the process; what was set up before is replaced."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else logging.Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
