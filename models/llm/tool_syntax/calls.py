"""The interface of formats of calls, and what they share."""

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from models.llm.tool_syntax.text_cursor import Malformed, TextCursor
from models.llm.tool_syntax.values import LOOSE, decode, encode, is_encodable


class ParsedCall(NamedTuple):
    name: str
    arguments: str  # a JSON object


CallSteps = Generator[ParsedCall | None, None, None]  # None: more text is needed


class CallFormat(Protocol):
    """A way to write calls.

    `begins` are the texts with which calls begin anywhere, `starts` those that begin calls only at the start of an
    answer; `markers` are all texts that `read` looks for. `read` leaves the cursor behind each call that it yields;
    if it raises `Malformed` after a call, only the text from there on is content.
    """

    @property
    def begins(self) -> tuple[str, ...]: ...
    @property
    def starts(self) -> tuple[str, ...]: ...
    @property
    def markers(self) -> tuple[str, ...]: ...
    def read(self, cursor: TextCursor, tools: "ToolSignatures") -> CallSteps: ...


class ToolSignatures:
    """The names and parameters of the tools that an answer may call."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """Without tools, any name may be a tool's."""
        functions = [tool.get("function") for tool in tools]
        self._parameters = {f["name"]: f.get("parameters") for f in functions if isinstance(f, Mapping) and "name" in f}

    def may_be(self, name: str) -> bool:
        return not self._parameters or name in self._parameters

    def parse_argument(self, name: str, key: str, text: str) -> object:
        """Return the value of an argument whose text shows no type: by the tool's schema, else as JSON if it is."""
        types = _types(self._schema(name, key))
        if types == {"string"}:
            return text
        try:
            value = decode(text, LOOSE)  # many templates write other values than strings so
        except Malformed:
            return text
        is_allowed = not types or "string" not in types or not types.isdisjoint(_TYPE_NAMES[type(value)])
        return value if is_allowed and not isinstance(value, str) else text

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
    """Return the names of the JSON types that a schema allows; empty if it does not say so plainly."""
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
    """Return the call. Arguments may be a string that holds the object, as some models write. Raises `Malformed`."""
    if isinstance(arguments, str):
        arguments = decode(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(name, str) or not name or not is_encodable(name) or not isinstance(arguments, dict):
        raise Malformed
    return ParsedCall(name, encode(arguments))


def parse_sent_arguments(text: str) -> dict[str, object]:
    """Return the arguments of an earlier call; text that is no JSON object becomes one, so that the chat can go on."""
    try:
        value = json.loads(text, strict=False) if text.strip() else {}
        is_json = is_encodable(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        is_json = False
    if not is_json:
        value = text
    return value if isinstance(value, dict) else {"input": value}


class ForcedCall(NamedTuple):
    """The text around the JSON objects of arguments when calls are forced by constrained decoding.

    It is `opening`, then for each call `begin`, the object and `end`, with `separator` between calls, then `closing`.
    Without a separator an answer has one call only.
    """

    begin: str
    end: str
    separator: str | None = None
    opening: str = ""
    closing: str = ""

    def with_name(self, name: str) -> "ForcedCall":
        """Put the tool's name in place of `NAME`."""
        return self._replace(begin=self.begin.replace("NAME", json.dumps(name, ensure_ascii=False)[1:-1]))
