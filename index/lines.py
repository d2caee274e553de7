"""Character offsets to line numbers. A line ends with \\n and with nothing else."""

import re

_NEWLINE = re.compile("\n")


def line_starts(text: str) -> list[int]:
    """Offset of every line's first character."""
    return [0, *(newline.end() for newline in _NEWLINE.finditer(text))]
