"""Calls written with tags around the name; arguments are tagged one by one or are one JSON object."""

import re
from collections.abc import Generator
from dataclasses import dataclass

from models.llm.tool_syntax.calls import CallSteps, ToolSignatures, make_call
from models.llm.tool_syntax.text_cursor import Malformed, TextCursor
from models.llm.tool_syntax.values import JSON, Dialect, decode, read_value

_NAME = re.compile(r"[\w.:/-]*")
_COUNTED = re.compile(r"(?:functions\.)?(.+?)(?::\d+)?")
_LIMIT = 120  # characters of a tag


@dataclass(frozen=True)
class ParameterTags:
    """The tags around an argument."""

    begin: str
    key_end: str
    end: str  # {key} stands for the key
    value_begin: str = ""
    type_end: str = ""  # the text between key_end and here is the type: true or string for a string
    is_padded: bool = False  # the value is on lines of its own
    has_cdata: bool = False
    is_flat: bool = False  # nested values are not parsed: a tag in a value makes it malformed


@dataclass(frozen=True)
class TaggedCalls:
    """The format. Between the parts of a tag there may be any text of up to `_LIMIT` characters."""

    begin: tuple[str, ...]
    ends: tuple[str, ...]
    name_end: str = ""
    parameter: ParameterTags | None = None
    section: tuple[str, ...] = ()  # tag before all calls
    section_end: str = ""
    dialect: Dialect = JSON
    is_counted: bool = False  # functions.NAME:0
    is_open_at_start: bool = False  # the prompt ends with `begin`

    @property
    def begins(self) -> tuple[str, ...]:
        return (*self.section[:1], self.begin[0])

    @property
    def starts(self) -> tuple[str, ...]:
        return ("",) if self.is_open_at_start else ()

    @property
    def markers(self) -> tuple[str, ...]:
        tags = (*self.section, self.section_end, *self.begin, self.name_end, *self.ends, *self.dialect.quotes)
        parameter = self.parameter
        if not parameter:
            return tags
        return (*tags, parameter.begin, parameter.key_end, parameter.type_end, parameter.value_begin, parameter.end)

    @property
    def is_json(self) -> bool:
        """True if arguments are always one JSON object."""
        return self.parameter is None and self.dialect is JSON

    def read(self, cursor: TextCursor, tools: ToolSignatures) -> CallSteps:
        cursor.at = 0
        is_in_section = yield from self._take_parts(cursor, self.section)
        while True:
            yield from cursor.skip_space()
            if not (yield from self._take_parts(cursor, self.begin)) and not self.is_open_at_start:
                raise Malformed
            name = yield from self._read_name(cursor)
            yield from cursor.skip_space()
            arguments = yield from self._read_arguments(cursor, tools, name)
            yield make_call(name, arguments)
            if is_in_section and (yield from cursor.take_spaced(self.section_end)):
                return
            if not (yield from self._is_followed(cursor)):
                return

    def _take_parts(self, cursor: TextCursor, parts: tuple[str, ...]) -> Generator[None, None, bool]:
        if not parts or not (yield from cursor.take(parts[0])):
            return False
        for part in parts[1:]:
            yield from cursor.until(part, _LIMIT)
        return True

    def _read_name(self, cursor: TextCursor) -> Generator[None, None, str]:
        name = yield from cursor.run(_NAME)
        if not name:
            raise Malformed
        if self.name_end:
            yield from cursor.until(self.name_end, _LIMIT)
        if self.is_counted and (match := _COUNTED.fullmatch(name)):
            return match[1]
        return name

    def _read_arguments(self, cursor: TextCursor, tools: ToolSignatures, name: str) -> Generator[None, None, object]:
        arguments: object
        if (yield from cursor.peek("{")):
            arguments = yield from read_value(cursor, self.dialect)
            num_ends_read = 0
        elif self.parameter:
            arguments = yield from self._read_parameters(cursor, self.parameter, tools, name)
            num_ends_read = 1
        else:
            raise Malformed
        for end in self.ends[num_ends_read:]:
            yield from cursor.take_spaced(end)
        return arguments

    def _read_parameters(
        self, cursor: TextCursor, parameter: ParameterTags, tools: ToolSignatures, name: str
    ) -> Generator[None, None, dict[str, object]]:
        """Read up to the first of `ends`, or to the end of the section if the model forgot it."""
        arguments: dict[str, object] = {}
        while True:
            yield from cursor.skip_space()
            tag = yield from cursor.take(parameter.begin, self.ends[0])
            if tag == self.ends[0]:
                return arguments
            if not tag:
                if self.section_end and (yield from cursor.peek(self.section_end)):
                    return arguments
                raise Malformed
            key = yield from cursor.until(parameter.key_end, _LIMIT)
            kind = (yield from cursor.until(parameter.type_end, _LIMIT)) if parameter.type_end else ""
            if parameter.value_begin:
                yield from cursor.skip_space()
                yield from cursor.expect(parameter.value_begin)
            text = yield from self._read_text(cursor, parameter, key)
            arguments[key] = _parse_typed(text, kind) if kind else tools.parse_argument(name, key, text)

    def _read_text(self, cursor: TextCursor, parameter: ParameterTags, key: str) -> Generator[None, None, str]:
        """Read up to a closing tag that another tag follows: a value may contain closing tags."""
        start = search = cursor.at
        end = parameter.end.replace("{key}", key)
        while True:
            end_at = cursor.text.find(end, search)
            if end_at >= 0:
                cursor.at = end_at + len(end)
                if (yield from self._ends_here(cursor, parameter)):
                    return _strip_padding(cursor.text[start:end_at], parameter)
                search = end_at + len(end)
            else:
                search = max(search, len(cursor.text) - len(end) + 1)
                if not (yield from cursor.more()):
                    raise Malformed

    def _ends_here(self, cursor: TextCursor, parameter: ParameterTags) -> Generator[None, None, bool]:
        start = cursor.at
        yield from cursor.skip_space()
        is_end = yield from cursor.peek(parameter.begin, self.ends[0], *filter(None, [self.section_end]))
        cursor.at = start
        return bool(is_end)

    def _is_followed(self, cursor: TextCursor) -> Generator[None, None, bool]:
        start = cursor.at
        yield from cursor.skip_space()
        begin = yield from cursor.peek(self.begin[0])
        cursor.at = start
        return bool(begin)


def _strip_padding(text: str, parameter: ParameterTags) -> str:
    if parameter.is_flat and parameter.begin in text:
        raise Malformed
    if parameter.has_cdata and text.startswith("<![CDATA[") and text.endswith("]]>"):
        return text[len("<![CDATA[") : -len("]]>")]
    return text.removeprefix("\n").removesuffix("\n") if parameter.is_padded else text


def _parse_typed(text: str, kind: str) -> object:
    if kind in ("true", "string"):
        return text
    try:
        return decode(text)
    except Malformed:
        return text
