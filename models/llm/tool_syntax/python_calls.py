"""Calls written as Python: a list of `name(key=value)`, or one alone."""

import re
from collections.abc import Generator
from dataclasses import dataclass

from models.llm.tool_syntax.calls import CallSteps, ParsedCall, ToolSignatures, make_call, parse_sent_arguments
from models.llm.tool_syntax.text_cursor import Malformed, TextCursor
from models.llm.tool_syntax.values import PYTHON, read_value

_NAME = re.compile(r"[\w.]*")


@dataclass(frozen=True)
class PythonCalls:
    open: str = ""
    close: str = ""

    @property
    def begins(self) -> tuple[str, ...]:
        return (self.open,) if self.open else ()

    @property
    def starts(self) -> tuple[str, ...]:
        return () if self.open else ("[",)

    @property
    def markers(self) -> tuple[str, ...]:
        return (self.open, self.close)

    def read(self, cursor: TextCursor, tools: ToolSignatures) -> CallSteps:
        cursor.at = len(self.open)
        yield from cursor.skip_space()
        is_list = bool((yield from cursor.take("[")))
        while True:
            yield from cursor.skip_space()
            call = yield from self._read_call(cursor)
            if not self.open and not tools.may_be(call.name):
                raise Malformed
            yield call
            if not is_list:
                break
            yield from cursor.skip_space()
            if (yield from cursor.expect("]", ",")) == "]":
                break
        if self.close:
            yield from cursor.take_spaced(self.close)

    def _read_call(self, cursor: TextCursor) -> Generator[None, None, ParsedCall]:
        name = yield from cursor.run(_NAME)
        yield from cursor.expect("(")
        arguments: dict[str, object] = {}
        yield from cursor.skip_space()
        while not (yield from cursor.take(")")):
            key = yield from cursor.run(_NAME)
            yield from cursor.skip_space()
            yield from cursor.expect("=")
            if not key:
                raise Malformed
            arguments[key] = yield from read_value(cursor, PYTHON)
            yield from cursor.skip_space()
            if (yield from cursor.peek(",", ")")) == ",":
                cursor.at += 1
                yield from cursor.skip_space()
            elif not (yield from cursor.peek(")")):
                raise Malformed
        return make_call(name.removesuffix(".call"), arguments)


def write_python(name: str, arguments: str) -> str:
    pairs = ", ".join(f"{key}={value!r}" for key, value in parse_sent_arguments(arguments).items())
    return f"{name}({pairs})"
