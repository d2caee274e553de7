"""A cursor over text that arrives in pieces, for grammars that are written as if all of it were there.

Parsing functions are generators: they yield None where they need more text and are resumed when there is more, so a
grammar is a sequence of plain steps and incremental at the same time. At the end of all text nothing waits any more;
if something is still missing then, `Malformed` is raised.
"""

import re
from collections.abc import Generator

SPACE = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]*")


class Malformed(Exception):
    """The text is not what its marker announced, so it is content."""


class TextCursor:
    """`text` is what has not been consumed yet, and `at` the position in it up to which it has been read."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.is_final = False
        self.is_exhausted = False  # a step needed text after the last of it

    def feed(self, text: str, *, final: bool) -> None:
        self.text += text
        self.is_final = self.is_final or final

    def commit(self) -> None:
        """Consume the text that has been read."""
        self.text = self.text[self.at :]
        self.at = 0

    def more(self) -> Generator[None, None, bool]:
        """Wait for text. Return False if there will be none."""
        if self.is_final:
            self.is_exhausted = True
            return False
        yield
        return True

    def run(self, pattern: re.Pattern[str]) -> Generator[None, None, str]:
        """Read the longest run of `pattern`, a class of characters repeated any number of times."""
        start = self.at
        while True:
            match = pattern.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not (yield from self.more()):
                return self.text[start : self.at]

    def skip_space(self) -> Generator[None, None, None]:
        yield from self.run(_SPACE)

    def peek(self, *options: str) -> Generator[None, None, str]:
        """Return the longest option that stands here, or "". The cursor stays."""
        while True:
            num_left = len(self.text) - self.at
            is_open = any(len(o) > num_left and self.text.endswith(o[:num_left]) for o in options)
            if not is_open or not (yield from self.more()):
                return max((o for o in options if self.text.startswith(o, self.at)), key=len, default="")

    def take(self, *options: str) -> Generator[None, None, str]:
        """Read the longest option that stands here, or ""."""
        option = yield from self.peek(*options)
        self.at += len(option)
        return option

    def expect(self, *options: str) -> Generator[None, None, str]:
        """Read the longest option that stands here; raise `Malformed` if none does."""
        option = yield from self.take(*options)
        if not option:
            raise Malformed
        return option

    def take_spaced(self, *options: str) -> Generator[None, None, str]:
        """Read white space and an option; the cursor stays before the white space if no option follows."""
        start = self.at
        yield from self.skip_space()
        option = yield from self.take(*options)
        if not option:
            self.at = start
        return option

    def until(self, end: str, limit: int) -> Generator[None, None, str]:
        """Return the text before the next `end`, at most `limit` characters, and read `end` too."""
        start = self.at
        while True:
            end_at = self.text.find(end, start, start + limit + len(end))
            if end_at >= 0:
                self.at = end_at + len(end)
                return self.text[start:end_at]
            if len(self.text) >= start + limit + len(end) or not (yield from self.more()):
                raise Malformed
