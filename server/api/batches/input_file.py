"""Reads the input file of a batch line by line. A batch runs only when every line is valid."""

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from server.api.batches.wire import InputLine
from server.storage.records import BatchError, BatchLine

MAX_LINES = 50_000
MAX_LINE_BYTES = 10 << 20
_MAX_ERRORS = 100
_GROUP = 500  # lines


class InvalidInput(Exception):
    """The input file has faults."""

    def __init__(self, errors: list[BatchError]) -> None:
        super().__init__(f"{len(errors)} errors in the input file")
        self.errors = errors


class InputReader:
    """Reads lines from a file that the caller closes. It blocks, so it is used in a thread."""

    def __init__(self, file: BinaryIO, endpoint: str) -> None:
        self._file = file
        self._endpoint = endpoint
        self._custom_ids: set[str] = set()
        self._errors: list[BatchError] = []
        self._lines = self._read_lines()
        self.num_lines = 0

    def next_lines(self) -> list[BatchLine]:
        """Return the next lines, none at the end. Raises `InvalidInput` there, or at the hundredth fault."""
        group: list[BatchLine] = []
        for line in self._lines:
            group.append(line)
            if len(group) == _GROUP:
                return group
        if not self.num_lines and not self._errors:
            self._errors.append(BatchError("empty_file", "The input file has no line."))
        if self._errors:
            raise InvalidInput(self._errors)
        return group

    def _read_lines(self) -> Iterator[BatchLine]:
        number = 0
        while text := self._file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(text) > MAX_LINE_BYTES:
                self._errors.append(
                    BatchError("line_too_long", f"A line has at most {MAX_LINE_BYTES:,} bytes.", number)
                )
                return
            if not text.strip():
                continue
            if self.num_lines == MAX_LINES:
                self._errors.append(BatchError("too_many_lines", f"A batch has at most {MAX_LINES:,} lines.", number))
                return
            if (line := self._parse(number, text)) is not None:
                self.num_lines += 1
                yield line
            elif len(self._errors) >= _MAX_ERRORS:
                return

    def _parse(self, number: int, text: bytes) -> BatchLine | None:
        """Return the line; None when it has a fault, which is added to the errors."""
        try:
            line = msgspec.json.decode(text, type=InputLine)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as malformed:
            self._errors.append(BatchError("invalid_json_line", f"This line is no request: {malformed}.", number))
            return None
        if (error := self._find_error(line, number)) is not None:
            self._errors.append(error)
            return None
        self._custom_ids.add(line.custom_id)
        return BatchLine(number, line.custom_id, bytes(line.body))

    def _find_error(self, line: InputLine, number: int) -> BatchError | None:
        if not bytes(line.body).lstrip().startswith(b"{"):
            return BatchError("invalid_value", "The body must be an object.", number, "body")
        if line.method != "POST":
            return BatchError("invalid_method", "The method must be POST.", number, "method")
        if line.url != self._endpoint:
            message = f"The URL must be the batch's endpoint, {self._endpoint}."
            return BatchError("mismatched_url", message, number, "url")
        if line.custom_id in self._custom_ids:
            message = f"There are two lines with the custom_id {line.custom_id!r}."
            return BatchError("duplicate_custom_id", message, number, "custom_id")
        return None
