"""Calls that look like Python: a list of `name(key=value)`, or one alone."""

import re
from collections.abc import Generator
from dataclasses import dataclass

from models.llm.tool_syntax.calls import ParsedCall, Reading, ToolSignatures, make_call, parse_sent_arguments
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

    def read(self, reader: TextCursor, tools: ToolSignatures) -> Reading:
        reader.at = len(self.open)
        yield from reader.skip_space()
        is_list = bool((yield from reader.take("[")))
        while True:
            yield from reader.skip_space()
            call = yield from self._read_call(reader)
            if not self.open and not tools.may_be(call.name):
                raise Malformed
            yield call
            if not is_list:
                break
            yield from reader.skip_space()
            if (yield from reader.expect("]", ",")) == "]":
                break
        if self.close:
            yield from reader.take_spaced(self.close)

    def _read_call(self, reader: TextCursor) -> Generator[None, None, ParsedCall]:
        name = yield from reader.run(_NAME)
        yield from reader.expect("(")
        arguments: dict[str, object] = {}
        yield from reader.skip_space()
        while not (yield from reader.take(")")):
            key = yield from reader.run(_NAME)
            yield from reader.skip_space()
            yield from reader.expect("=")
            if not key:
                raise Malformed
            arguments[key] = yield from read_value(reader, PYTHON)
            yield from reader.skip_space()
            if (yield from reader.peek(",", ")")) == ",":
                reader.at += 1
                yield from reader.skip_space()
            elif not (yield from reader.peek(")")):
                raise Malformed
        return make_call(name.removesuffix(".call"), arguments)


def write_python(name: str, arguments: str) -> str:
    pairs = ", ".join(f"{key}={value!r}" for key, value in parse_sent_arguments(arguments).items())
    return f"{name}({pairs})"
