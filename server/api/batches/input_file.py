"""The input file of a batch, line by line: every line is right, or nothing of it is run."""

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from server.api.batches.wire import BatchError, InputLine
from server.storage.sqlite.batches import Line

MOST_LINES = 50_000
LONGEST_LINE = 10 << 20  # bytes
_MOST_ERRORS = 100
_GROUP = 500  # lines


class InvalidInput(Exception):
    def __init__(self, errors: list[BatchError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


class InputReader:
    """Owns nothing: the file is the caller's to close. Reads when asked, so in a thread."""

    def __init__(self, file: BinaryIO, endpoint: str) -> None:
        self._file = file
        self._endpoint = endpoint
        self._ids: set[str] = set()
        self._errors: list[BatchError] = []
        self._numbered = self._lines()
        self.num_lines = 0

    def group(self) -> list[Line]:
        """The next lines; none at the end. Raises `InvalidInput` there, or when there are too many errors to tell."""
        group: list[Line] = []
        for line in self._numbered:
            group.append(line)
            if len(group) == _GROUP:
                return group
        if not self.num_lines and not self._errors:
            self._errors.append(BatchError("empty_file", "The input file has no line."))
        if self._errors:
            raise InvalidInput(self._errors)
        return group

    def _lines(self) -> Iterator[Line]:
        number = 0
        while text := self._file.readline(LONGEST_LINE + 1):
            number += 1
            if len(text) > LONGEST_LINE:
                self._errors.append(BatchError("line_too_long", f"A line has at most {LONGEST_LINE:,} bytes.", number))
                return
            if not text.strip():
                continue
            if self.num_lines == MOST_LINES:
                self._errors.append(BatchError("too_many_lines", f"A batch has at most {MOST_LINES:,} lines.", number))
                return
            if (line := self._read(number, text)) is not None:
                self.num_lines += 1
                yield line
            elif len(self._errors) >= _MOST_ERRORS:
                return

    def _read(self, number: int, text: bytes) -> Line | None:
        """None for what is wrong, which is noted."""
        try:
            told = msgspec.json.decode(text, type=InputLine)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as malformed:
            self._errors.append(BatchError("invalid_json_line", f"This line is no request: {malformed}.", number))
            return None
        if (error := self._error_in(told, number)) is not None:
            self._errors.append(error)
            return None
        self._ids.add(told.custom_id)
        return Line(number, told.custom_id, bytes(told.body))

    def _error_in(self, told: InputLine, number: int) -> BatchError | None:
        if not bytes(told.body).lstrip().startswith(b"{"):
            return BatchError("invalid_value", "The body must be an object.", number, "body")
        if told.method != "POST":
            return BatchError("invalid_method", "The method must be POST.", number, "method")
        if told.url != self._endpoint:
            message = f"The URL must be the batch's endpoint, {self._endpoint}."
            return BatchError("mismatched_url", message, number, "url")
        if told.custom_id in self._ids:
            message = f"There are two lines with the custom_id {told.custom_id!r}."
            return BatchError("duplicate_custom_id", message, number, "custom_id")
        return None
