"""Calls whose name stands between tags, and whose arguments are tagged one by one or are one JSON object."""

import re
from collections.abc import Generator
from dataclasses import dataclass

from models.llm.tool_syntax.calls import Reading, ToolSignatures, make_call
from models.llm.tool_syntax.text_cursor import Malformed, TextCursor
from models.llm.tool_syntax.values import JSON, Dialect, decode, read_value

_NAME = re.compile(r"[\w.:/-]*")
_COUNTED = re.compile(r"(?:functions\.)?(.+?)(?::\d+)?")
_LIMIT = 120  # characters of a tag


@dataclass(frozen=True)
class Parameter:
    begin: str
    key_end: str
    end: str  # {key} in it is the key
    value_begin: str = ""
    type_end: str = ""  # between key_end and here the tag says what the value is: true or string for a string
    is_padded: bool = False  # the value is on lines of its own
    has_cdata: bool = False
    is_flat: bool = False  # a tag in a value begins a nested value, which is not read


@dataclass(frozen=True)
class TaggedCalls:
    """Tags of several parts may have anything of `_LIMIT` characters between their parts."""

    begin: tuple[str, ...]
    ends: tuple[str, ...]
    name_end: str = ""
    parameter: Parameter | None = None
    section: tuple[str, ...] = ()  # stands before all calls
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
        """Whether arguments are never written in another way."""
        return self.parameter is None and self.dialect is JSON

    def read(self, reader: TextCursor, tools: ToolSignatures) -> Reading:
        reader.at = 0
        is_in_section = yield from self._take_parts(reader, self.section)
        while True:
            yield from reader.skip_space()
            if not (yield from self._take_parts(reader, self.begin)) and not self.is_open_at_start:
                raise Malformed
            name = yield from self._read_name(reader)
            yield from reader.skip_space()
            arguments = yield from self._read_arguments(reader, tools, name)
            yield make_call(name, arguments)
            if is_in_section and (yield from reader.take_spaced(self.section_end)):
                return
            if not (yield from self._is_followed(reader)):
                return

    def _take_parts(self, reader: TextCursor, parts: tuple[str, ...]) -> Generator[None, None, bool]:
        if not parts or not (yield from reader.take(parts[0])):
            return False
        for part in parts[1:]:
            yield from reader.until(part, _LIMIT)
        return True

    def _read_name(self, reader: TextCursor) -> Generator[None, None, str]:
        name = yield from reader.run(_NAME)
        if not name:
            raise Malformed
        if self.name_end:
            yield from reader.until(self.name_end, _LIMIT)
        if self.is_counted and (match := _COUNTED.fullmatch(name)):
            return match[1]
        return name

    def _read_arguments(self, reader: TextCursor, tools: ToolSignatures, name: str) -> Generator[None, None, object]:
        arguments: object
        if (yield from reader.peek("{")):
            arguments = yield from read_value(reader, self.dialect)
            num_seen = 0
        elif self.parameter:
            arguments = yield from self._read_parameters(reader, self.parameter, tools, name)
            num_seen = 1
        else:
            raise Malformed
        for end in self.ends[num_seen:]:
            yield from reader.take_spaced(end)
        return arguments

    def _read_parameters(
        self, reader: TextCursor, parameter: Parameter, tools: ToolSignatures, name: str
    ) -> Generator[None, None, dict[str, object]]:
        """Goes behind the first of `ends`, or to the end of the section, where a model forgot it."""
        found: dict[str, object] = {}
        while True:
            yield from reader.skip_space()
            tag = yield from reader.take(parameter.begin, self.ends[0])
            if tag == self.ends[0]:
                return found
            if not tag:
                if self.section_end and (yield from reader.peek(self.section_end)):
                    return found
                raise Malformed
            key = yield from reader.until(parameter.key_end, _LIMIT)
            kind = (yield from reader.until(parameter.type_end, _LIMIT)) if parameter.type_end else ""
            if parameter.value_begin:
                yield from reader.skip_space()
                yield from reader.expect(parameter.value_begin)
            text = yield from self._read_text(reader, parameter, key)
            found[key] = _typed(text, kind) if kind else tools.typed(name, key, text)

    def _read_text(self, reader: TextCursor, parameter: Parameter, key: str) -> Generator[None, None, str]:
        """Up to the closing tag that another tag follows: a value may well contain a closing tag."""
        start = search = reader.at
        end = parameter.end.replace("{key}", key)
        while True:
            found = reader.text.find(end, search)
            if found >= 0:
                reader.at = found + len(end)
                if (yield from self._ends_here(reader, parameter)):
                    return _bare(reader.text[start:found], parameter)
                search = found + len(end)
            else:
                search = max(search, len(reader.text) - len(end) + 1)
                if not (yield from reader.more()):
                    raise Malformed

    def _ends_here(self, reader: TextCursor, parameter: Parameter) -> Generator[None, None, bool]:
        behind = reader.at
        yield from reader.skip_space()
        is_end = yield from reader.peek(parameter.begin, self.ends[0], *filter(None, [self.section_end]))
        reader.at = behind
        return bool(is_end)

    def _is_followed(self, reader: TextCursor) -> Generator[None, None, bool]:
        behind = reader.at
        yield from reader.skip_space()
        found = yield from reader.peek(self.begin[0])
        reader.at = behind
        return bool(found)


def _bare(text: str, parameter: Parameter) -> str:
    if parameter.is_flat and parameter.begin in text:
        raise Malformed
    if parameter.has_cdata and text.startswith("<![CDATA[") and text.endswith("]]>"):
        return text[len("<![CDATA[") : -len("]]>")]
    return text.removeprefix("\n").removesuffix("\n") if parameter.is_padded else text


def _typed(text: str, kind: str) -> object:
    if kind in ("true", "string"):
        return text
    try:
        return decode(text)
    except Malformed:
        return text
