"""Calls that are JSON objects with a name and arguments, alone or in a list, behind a marker or without one."""

from collections.abc import Generator
from dataclasses import dataclass

from models.llm.tool_syntax.calls import ParsedCall, Reading, ToolSignatures, make_call
from models.llm.tool_syntax.text_cursor import Malformed, TextCursor
from models.llm.tool_syntax.values import JSON, read_string, read_value

_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters")
_FIRST_KEYS = {*_NAME_KEYS, *_ARGUMENT_KEYS, "type", "id", "tool_call_id"}


@dataclass(frozen=True)
class JsonCalls:
    """`close` may be missing: a complete object is a call."""

    open: str = ""
    close: str = ""
    # Nothing but its shape says that this is a call: only as the whole answer, only with a name that is known.
    is_guess: bool = False
    # Objects of one key, the name, whose value is the arguments.
    is_keyed: bool = False

    @property
    def begins(self) -> tuple[str, ...]:
        return () if self.is_guess else (self.open,)

    @property
    def starts(self) -> tuple[str, ...]:
        return (self.open,) if self.is_guess and self.open else ("{", "[") if self.is_guess else ()

    @property
    def markers(self) -> tuple[str, ...]:
        return (self.open, self.close)

    def read(self, reader: TextCursor, tools: ToolSignatures) -> Reading:
        reader.at = len(self.open)
        yield from reader.skip_space()
        is_list = bool((yield from reader.take("[")))
        while True:
            yield from reader.skip_space()
            yield (yield from self._read_call(reader, tools))
            separator = yield from reader.take_spaced(",", ";", "{", "]" if is_list else "{")
            if separator == "{":
                reader.at -= 1
            elif separator not in (",", ";"):
                break
        if is_list and separator != "]":
            raise Malformed
        if self.close:
            yield from reader.take_spaced(self.close)

    def _read_call(self, reader: TextCursor, tools: ToolSignatures) -> Generator[None, None, ParsedCall]:
        if not (yield from reader.peek("{")):
            raise Malformed
        if self.is_guess:
            yield from self._check_first_key(reader)
        value = yield from read_value(reader, JSON)
        if not isinstance(value, dict):
            raise Malformed
        if self.is_keyed and len(value) == 1:
            [(name, arguments)] = value.items()
            return make_call(name, arguments)
        if isinstance(inner := value.get("function"), dict):
            value = inner
        name = next((value[key] for key in _NAME_KEYS if key in value), None)
        has_arguments = any(key in value for key in _ARGUMENT_KEYS)
        call = make_call(name, next((value[key] for key in _ARGUMENT_KEYS if key in value), None))
        if self.is_guess and not (has_arguments and tools.may_be(call.name)):
            raise Malformed
        return call

    def _check_first_key(self, reader: TextCursor) -> Generator[None, None, None]:
        """So that an answer that is JSON but no call is not held back to its end."""
        start = reader.at
        yield from reader.expect("{")
        yield from reader.skip_space()
        yield from reader.expect('"')
        if (yield from read_string(reader, '"')) not in _FIRST_KEYS:
            raise Malformed
        reader.at = start
