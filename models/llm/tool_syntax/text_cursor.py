"""Text that comes in pieces, read as if all of it were there.

Whatever reads is a generator that yields None where it needs more text and goes on when there is more, so a grammar is
written down as plain steps and is incremental by itself. At the end of all text nothing waits any more; what is still
missing then is `Malformed`.
"""

import re
from collections.abc import Generator

SPACE = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]*")


class Malformed(Exception):
    """This is not what its marker promised, so it is text for the user."""


class TextCursor:
    """`text` is what nobody has used up yet, and `at` is how far it has been read."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.is_final = False
        self.is_exhausted = False  # something waited for text after the last of it

    def feed(self, text: str, *, final: bool) -> None:
        self.text += text
        self.is_final = self.is_final or final

    def commit(self) -> None:
        """Uses up what has been read."""
        self.text = self.text[self.at :]
        self.at = 0

    def more(self) -> Generator[None, None, bool]:
        """Waits for text. False: there will be none."""
        if self.is_final:
            self.is_exhausted = True
            return False
        yield
        return True

    def run(self, pattern: re.Pattern[str]) -> Generator[None, None, str]:
        """The longest run of `pattern`, which is some class of characters, any number of times."""
        start = self.at
        while True:
            match = pattern.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not (yield from self.more()):
                return self.text[start : self.at]

    def skip_space(self) -> Generator[None, None, None]:
        yield from self.run(_SPACE)

    def peek(self, *options: str) -> Generator[None, None, str]:
        """The longest of these that stands here, or ""."""
        while True:
            num_left = len(self.text) - self.at
            is_open = any(len(o) > num_left and self.text.endswith(o[:num_left]) for o in options)
            if not is_open or not (yield from self.more()):
                return max((o for o in options if self.text.startswith(o, self.at)), key=len, default="")

    def take(self, *options: str) -> Generator[None, None, str]:
        """`peek`, and goes behind it."""
        found = yield from self.peek(*options)
        self.at += len(found)
        return found

    def expect(self, *options: str) -> Generator[None, None, str]:
        """`take`, where one of them must stand."""
        found = yield from self.take(*options)
        if not found:
            raise Malformed
        return found

    def take_spaced(self, *options: str) -> Generator[None, None, str]:
        """`take` behind white space, which stays where it is when none of them follows."""
        start = self.at
        yield from self.skip_space()
        found = yield from self.take(*options)
        if not found:
            self.at = start
        return found

    def until(self, end: str, limit: int) -> Generator[None, None, str]:
        """What stands before the next `end`, `limit` characters at most; goes behind it."""
        start = self.at
        while True:
            found = self.text.find(end, start, start + limit + len(end))
            if found >= 0:
                self.at = found + len(end)
                return self.text[start:found]
            if len(self.text) >= start + limit + len(end) or not (yield from self.more()):
                raise Malformed
