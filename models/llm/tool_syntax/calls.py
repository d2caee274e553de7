"""What the formats of calls have in common."""

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from models.llm.tool_syntax.text_cursor import Malformed, TextCursor
from models.llm.tool_syntax.values import LOOSE, decode, encode, is_encodable


class ParsedCall(NamedTuple):
    name: str
    arguments: str  # a JSON object


Reading = Generator[ParsedCall | None, None, None]


class CallFormat(Protocol):
    """Reads calls from where one of `begins` stands, or at the start of an answer from where one of `starts` stands;
    `markers` are all strings that it looks for.

    After a `ParsedCall` the reader stands behind it. `Malformed` after one means that only the rest is text.
    """

    @property
    def begins(self) -> tuple[str, ...]: ...
    @property
    def starts(self) -> tuple[str, ...]: ...
    @property
    def markers(self) -> tuple[str, ...]: ...
    def read(self, reader: TextCursor, tools: "ToolSignatures") -> Reading: ...


class ToolSignatures:
    """The tools that an answer may call, as far as reading calls needs to know them."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """`tools` are OpenAI function tools; none: any name may be one."""
        functions = [tool.get("function") for tool in tools]
        self._parameters = {f["name"]: f.get("parameters") for f in functions if isinstance(f, Mapping) and "name" in f}

    def may_be(self, name: str) -> bool:
        return not self._parameters or name in self._parameters

    def typed(self, name: str, key: str, text: str) -> object:
        """An argument whose type its text does not show: by the tool's schema, else the JSON value that it spells."""
        types = _types(self._schema(name, key))
        if types == {"string"}:
            return text
        try:
            value = decode(text, LOOSE)  # as many templates write what is no string
        except Malformed:
            return text
        is_wanted = not types or "string" not in types or not types.isdisjoint(_TYPE_NAMES[type(value)])
        return value if is_wanted and not isinstance(value, str) else text

    def _schema(self, name: str, key: str) -> object:
        parameters = self._parameters.get(name)
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        return properties.get(key) if isinstance(properties, Mapping) else None


_TYPE_NAMES: dict[type, set[str]] = {
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    dict: {"object"},
    list: {"array"},
    type(None): {"null"},
    str: {"string"},
}


def _types(schema: object) -> set[str]:
    """The names of JSON types that a schema allows, as far as it says so plainly; empty when it does not."""
    if not isinstance(schema, Mapping):
        return set()
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return {t for t in named if isinstance(t, str)}
    if isinstance(values := schema.get("enum"), list):
        return {t for v in values for t in _TYPE_NAMES.get(type(v), set())}
    options = schema.get("anyOf") or schema.get("oneOf")
    kinds = [_types(option) for option in options] if isinstance(options, list) else []
    return set().union(*kinds) if all(kinds) else set()


def make_call(name: object, arguments: object) -> ParsedCall:
    """Raises `Malformed`. Some models give the arguments as a string that holds the object."""
    if isinstance(arguments, str):
        arguments = decode(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(name, str) or not name or not is_encodable(name) or not isinstance(arguments, dict):
        raise Malformed
    return ParsedCall(name, encode(arguments))


def parse_sent_arguments(text: str) -> dict[str, object]:
    """The arguments of an earlier call. A client may send back anything, and the chat can go on all the same."""
    try:
        value = json.loads(text, strict=False) if text.strip() else {}
        is_sound = is_encodable(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        is_sound = False
    if not is_sound:
        value = text
    return value if isinstance(value, dict) else {"input": value}


class ForcedCall(NamedTuple):
    """How calls are written around the JSON object of each one's arguments: opening, then begin, object and end for
    each with `separator` between, then closing. Without a separator an answer has one call only."""

    begin: str
    end: str
    separator: str | None = None
    opening: str = ""
    closing: str = ""

    def named(self, name: str) -> "ForcedCall":
        """`NAME` stands for the tool's name."""
        return self._replace(begin=self.begin.replace("NAME", json.dumps(name, ensure_ascii=False)[1:-1]))
