"""What others wrote, as a terminal may have it."""

import re

# Controls but tab and line feed, of both sets: by them a text could recolour or overwrite what a terminal shows.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")


def shown(text: str) -> str:
    """Without what a terminal would obey."""
    return _CONTROLS.sub("", text)


def fitted(line: str, columns: int) -> str:
    """Cut where a terminal would go on in its next row."""
    return line if len(line) < columns else f"{line[: max(columns - 2, 0)]}…"
