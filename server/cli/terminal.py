"""Make text of documents, models and servers safe to print on a terminal."""

import re
import sys

# Control characters of both sets, except tab and line feed: they could recolour or overwrite what a terminal shows.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")


def strip_controls(text: str) -> str:
    """Return the text without control characters."""
    return _CONTROLS.sub("", text)


def fit_line(line: str, columns: int) -> str:
    """Return the line cut to one row of a terminal."""
    return line if len(line) < columns else f"{line[: max(columns - 2, 0)]}…"


def print_error(error: object) -> None:
    """Print an error to stderr as one line."""
    print(f"cloister: {strip_controls(str(error)).replace(chr(10), ' ')}", file=sys.stderr)
