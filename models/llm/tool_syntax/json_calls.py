"""Calls written as JSON objects with a name and arguments, alone or in a list, with or without a marker."""

from collections.abc import Generator
from dataclasses import dataclass

from models.llm.tool_syntax.calls import CallSteps, ParsedCall, ToolSignatures, make_call
from models.llm.tool_syntax.text_cursor import Malformed, TextCursor
from models.llm.tool_syntax.values import JSON, read_string, read_value

_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters")
_FIRST_KEYS = {*_NAME_KEYS, *_ARGUMENT_KEYS, "type", "id", "tool_call_id"}


@dataclass(frozen=True)
class JsonCalls:
    """The format between the markers `open` and `close`. `close` may be missing: a complete object is a call."""

    open: str = ""
    close: str = ""
    # Only the shape says that this is a call: it must be the whole answer and name a known tool.
    is_guess: bool = False
    # Objects have one key, the name, and its value is the arguments.
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

    def read(self, cursor: TextCursor, tools: ToolSignatures) -> CallSteps:
        cursor.at = len(self.open)
        yield from cursor.skip_space()
        is_list = bool((yield from cursor.take("[")))
        while True:
            yield from cursor.skip_space()
            yield (yield from self._read_call(cursor, tools))
            separator = yield from cursor.take_spaced(",", ";", "{", "]" if is_list else "{")
            if separator == "{":
                cursor.at -= 1
            elif separator not in (",", ";"):
                break
        if is_list and separator != "]":
            raise Malformed
        if self.close:
            yield from cursor.take_spaced(self.close)

    def _read_call(self, cursor: TextCursor, tools: ToolSignatures) -> Generator[None, None, ParsedCall]:
        if not (yield from cursor.peek("{")):
            raise Malformed
        if self.is_guess:
            yield from self._check_first_key(cursor)
        value = yield from read_value(cursor, JSON)
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

    def _check_first_key(self, cursor: TextCursor) -> Generator[None, None, None]:
        """Raise `Malformed` early for JSON that is no call, so that it is not held back to its end."""
        start = cursor.at
        yield from cursor.expect("{")
        yield from cursor.skip_space()
        yield from cursor.expect('"')
        if (yield from read_string(cursor, '"')) not in _FIRST_KEYS:
            raise Malformed
        cursor.at = start
