"""A progress line on a terminal, and sizes and times as people read them."""

import sys
import time
from typing import Self, TextIO

_REFRESH_S = 0.2
_WINDOW_S = 10.0  # over which a rate is measured
_UNITS = ("B", "kB", "MB", "GB", "TB")


class Progress:
    """A line that shows the progress towards `total` bytes, from `done` bytes on. Prints only to a terminal.

    `total` is None if it is unknown. A context manager."""

    def __init__(self, name: str, total: int | None, done: int = 0, stream: TextIO | None = None) -> None:
        self._name = name
        self._total = total
        self._done = done
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._printed_at = 0.0
        self._marks = [(time.monotonic(), done)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._print()
            self._stream.write("\n")
            self._stream.flush()

    def add(self, num_bytes: int) -> None:
        self._done += num_bytes
        now = time.monotonic()
        if self._is_terminal and now - self._printed_at >= _REFRESH_S:
            self._printed_at = now
            self._marks = [mark for mark in self._marks if now - mark[0] <= _WINDOW_S] or self._marks[-1:]
            self._marks.append((now, self._done))
            self._print()

    def _print(self) -> None:
        self._stream.write(f"\r\x1b[2K{self._name}  {self.line()}")
        self._stream.flush()

    def line(self) -> str:
        """Return the progress so far, with the rate of the last seconds and the time left."""
        (first_at, first), (last_at, last) = self._marks[0], self._marks[-1]
        rate = (last - first) / (last_at - first_at) if last_at > first_at else 0.0
        parts = [f"{format_size(self._done)}"]
        if self._total:
            parts = [f"{100 * self._done / self._total:3.0f} % of {format_size(self._total)}"]
        if rate > 0:
            parts.append(f"{format_size(rate)}/s")
            if self._total and self._done < self._total:
                parts.append(f"{format_duration((self._total - self._done) / rate)} left")
        return ", ".join(parts)


def format_size(num_bytes: float) -> str:
    """Return a size in powers of a thousand, as file managers show it."""
    power = 0
    while num_bytes >= 999.5 and power < len(_UNITS) - 1:
        num_bytes /= 1000
        power += 1
    digits = 1 if power and num_bytes < 99.95 else 0
    return f"{num_bytes:.{digits}f} {_UNITS[power]}"


def format_duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
