"""Make text of others safe to print on a terminal."""

import re

# Controls but tab and line feed, of both sets: by them a text could recolour or overwrite what a terminal shows.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")


def strip_controls(text: str) -> str:
    """Return the text without control characters."""
    return _CONTROLS.sub("", text)


def fit_line(line: str, columns: int) -> str:
    """Return the line cut to one row of a terminal."""
    return line if len(line) < columns else f"{line[: max(columns - 2, 0)]}…"
