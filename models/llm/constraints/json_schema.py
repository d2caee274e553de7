r"""JSON Schemas, checked and rewritten before llguidance sees them.

A schema is rewritten keyword by keyword, so that nothing reaches the compiler unchecked. A keyword that cannot be
enforced raises `GrammarError` and is never ignored. These keywords of JSON Schema draft 2020-12 are supported:

* `type`, `enum`, `const`; `anyOf`, `allOf`, and `oneOf` where its options exclude each other;
* `$ref` to a place in the same document (`#/$defs/x`, `#`), recursive if need be;
* `properties`, `required`, `additionalProperties`, `patternProperties`; `minProperties` and `maxProperties` where
  every listed property is required;
* `items`, `prefixItems`, `minItems`, `maxItems`;
* `minLength`, `maxLength`, `pattern` (no look-around, no back-references, Unicode; unanchored), `format` of `FORMATS`;
* `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`.

Annotations (`title`, `description`, `default`, …, `x-…`) are left out; any other keyword is refused. JSON is written
as Python's `json.dumps` and chat templates' `tojson` write it, `{"a": 1, "b": [true]}`: no other spaces, so that
tokens that the schema decides are forced and cost no sampling. Properties come in the schema's order. Not enforced:
that names which only `additionalProperties` or `patternProperties` allow differ from each other.
"""

import json
import math
import re
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from llguidance import LLMatcher

from models.errors import GrammarError
from models.llm.constraints.bounded_schema import bound_schemas
from models.llm.constraints.limits import MAX_DEPTH, MAX_EXACT, MAX_NODES, MAX_STEP, MAX_TEXT, PARSER_LIMITS
from models.llm.constraints.regex import string_regex

FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"])
_COMPILER = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "json_allowed_escapes": 'nrbtf\\"',  # not `u`, which could hide names from `properties`
}


def _is_schema_type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    known = ("null", "boolean", "object", "array", "number", "string", "integer")
    return bool(names) and all(name in known for name in names) and len(set(names)) == len(names)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 1_000_000


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_EXACT


def _is_step(value: Any) -> bool:
    return _is_number(value) and value > 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_schema_type, "a type or a list of different types"),
    "required": (_are_names, "a list of names"),
    "format": (lambda value: isinstance(value, str) and value in FORMATS, "one of " + ", ".join(sorted(FORMATS))),
    "pattern": (lambda value: isinstance(value, str), "a regular expression"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of values"),
    "const": (lambda value: True, "a value"),
    "multipleOf": (_is_step, "a number above 0"),
    **dict.fromkeys(
        ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"),
        (_is_count, "a whole number from 0 to a million"),
    ),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        (_is_number, "a number of at most 2^53 in size"),
    ),
}
_SCHEMA_KEYWORDS = frozenset({"items", "additionalProperties"})
_LIST_KEYWORDS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAP_KEYWORDS = frozenset({"properties", "patternProperties"})
_ANNOTATION = re.compile(
    r"x-.*|\$(schema|comment|defs|anchor|dynamicAnchor)|definitions|title|description|default|examples?|deprecated"
    r"|readOnly|writeOnly|content(Encoding|MediaType|Schema)|discriminator"
)
_LAST_SUSPECTS = {"type"} | _SCHEMA_KEYWORDS | _LIST_KEYWORDS | _MAP_KEYWORDS  # without them almost all compiles


class _Node(NamedTuple):
    path: str
    parent: str
    schema: dict[str, Any]


class SchemaBudget:
    """The size that all schemas of one constraint may have together."""

    def __init__(self) -> None:
        self.num_nodes = 0
        self.num_bytes = 0

    def take_node(self, path: str) -> None:
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES:
            raise GrammarError(f"more than {MAX_NODES} schemas", path)

    def take_text(self, text: str, path: str) -> None:
        try:
            self.num_bytes += len(text.encode())
        except UnicodeEncodeError as error:
            raise GrammarError("not Unicode text", path) from error
        if self.num_bytes > MAX_TEXT:
            raise GrammarError(f"longer than {MAX_TEXT} bytes", path)


class Schema:
    """A rewritten JSON Schema: it has known keywords only, and references only into a flat `$defs` of its own.

    `is_bounded`: narrowed so that every answer ends, see `bounded_schema.py`.
    """

    def __init__(self, text: str, budget: SchemaBudget, *, object_only: bool = False, is_bounded: bool = False) -> None:
        self._budget = budget
        budget.take_text(text, "$")
        self._document = _parse(text)
        if object_only:
            self._document = as_object(self._document)
        self._names: dict[str, str] = {}  # names of definitions by pointer
        self._steps: list[Decimal] = []
        self.nodes: list[_Node] = []
        self._definitions: dict[str, Any] = {}
        self._root = self._read(self._document, "$", "", 0)
        while len(self._definitions) < len(self._names):
            pointer, name = list(self._names.items())[len(self._definitions)]
            path, schema = self._target(pointer, "")
            self._definitions[name] = self._read(schema, path, "", 0)
            self._check_cycle(name, path)
        if is_bounded:
            bound_schemas([node.schema for node in self.nodes])

    def document(self, schema: Any = None) -> dict[str, Any]:
        """Return the schema to compile, for the whole or for one part of it."""
        root = self._root if schema is None else schema
        root = root if isinstance(root, dict) else {"allOf": [root]}
        return {"x-guidance": _COMPILER, **root, "$defs": self._definitions}

    def locate(self, deadline: float) -> str:
        """Return the path of the innermost schema that does not compile alone, with the keyword if one is to blame.

        "" if all of it compiles. The search ends at the deadline (`time.monotonic`) with what it has.
        """
        if not self.nodes or not self._error(self.nodes[0].schema):
            return ""
        culprit = self.nodes[0]
        for node in self.nodes[1:]:
            if node.parent in ("", culprit.path) and time.monotonic() < deadline and self._error(node.schema):
                culprit = node
        for keyword in sorted(culprit.schema, key=_LAST_SUSPECTS.__contains__):
            rest = {k: v for k, v in culprit.schema.items() if k != keyword}
            if time.monotonic() < deadline and not self._error(rest):
                return _join(culprit.path, keyword)
        return culprit.path

    def _error(self, schema: dict[str, Any]) -> str:
        return compile_error(encode({"grammars": [{"json_schema": self.document(schema)}]}))

    def _read(self, schema: Any, path: str, parent: str, depth: int) -> Any:
        self._budget.take_node(path)
        if depth > MAX_DEPTH:
            raise GrammarError(f"more than {MAX_DEPTH} schemas in each other", path)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise GrammarError("not a schema", path)
        read: dict[str, Any] = {}
        self.nodes.append(_Node(path, parent, read))
        for keyword, value in schema.items():
            if not (_ANNOTATION.fullmatch(keyword) or (keyword == "$id" and path == "$")):
                read[keyword] = self._value(keyword, value, path, depth + 1)
        return read

    def _value(self, keyword: str, value: Any, parent: str, depth: int) -> Any:
        path = _join(parent, keyword)
        if keyword in _SCHEMA_KEYWORDS:
            return self._read(value, path, parent, depth)
        if keyword in _LIST_KEYWORDS and isinstance(value, list) and value:
            inline = self._inline if keyword == "oneOf" else _identity
            return [self._read(inline(item, path), f"{path}[{i}]", parent, depth) for i, item in enumerate(value)]
        if keyword in _MAP_KEYWORDS and isinstance(value, dict):
            read = {name: self._read(item, _join(path, name), parent, depth) for name, item in value.items()}
            if keyword == "patternProperties":
                return {string_regex(name, _join(path, name)): schema for name, schema in read.items()}
            return read
        if keyword == "$ref":
            return self._reference(value, path)
        if keyword in _LIST_KEYWORDS | _MAP_KEYWORDS:
            raise GrammarError("a list or a map of schemas is expected", path)
        return self._plain(keyword, value, path, depth)

    def _plain(self, keyword: str, value: Any, path: str, depth: int) -> Any:
        if keyword not in _VALUES:
            raise GrammarError(f"{keyword!r} is not supported", path)
        is_valid, expected = _VALUES[keyword]
        if not is_valid(value):
            raise GrammarError(f"{expected} is expected", path)
        if keyword == "pattern":
            return string_regex(value, path)
        if keyword in ("const", "enum"):
            self._check_literal(value, path, depth)
        if keyword == "multipleOf":
            self._check_step(value, path)
        return value

    def _check_literal(self, value: Any, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise GrammarError(f"more than {MAX_DEPTH} values in each other", path)
        if isinstance(value, (list, dict)):
            self._budget.take_node(path)
            for item in value.values() if isinstance(value, dict) else value:
                self._check_literal(item, path, depth + 1)
        elif type(value) in (int, float) and not _is_number(value):
            raise GrammarError("a number of at most 2^53 in size is expected", path)
        elif isinstance(value, str) and re.search(r"[^\b\t\n\f\r -~\x80-\U0010ffff]", value):
            raise GrammarError("control characters are not supported", path)

    def _check_step(self, value: float, path: str) -> None:
        self._steps.append(Decimal(str(value)).normalize())
        digits = max(len(f"{step:f}".partition(".")[2]) for step in self._steps)
        if digits > 9 or math.lcm(*(int(step.scaleb(digits)) for step in self._steps)) > MAX_STEP:
            raise GrammarError(f"the least common multiple of all steps is above {MAX_STEP}", path)

    def _reference(self, pointer: Any, path: str) -> str:
        self._target(pointer, path)
        return "#/$defs/" + self._names.setdefault(pointer, str(len(self._names)))

    def _check_cycle(self, name: str, path: str) -> None:
        """Raise `GrammarError` if the definition, the last one read, closes a circle of mere references."""
        place: Any = {"$ref": f"#/$defs/{name}"}
        for _ in range(MAX_NODES):
            if not (isinstance(place, dict) and place.keys() == {"$ref"}):
                return
            place = self._definitions.get(place["$ref"].removeprefix("#/$defs/"))
        raise GrammarError("refers only to itself", path)

    def _inline(self, option: Any, path: str) -> Any:
        """Return the schema that an option of `oneOf` refers to: llguidance compares options without references."""
        for _ in range(MAX_DEPTH):
            if not (isinstance(option, dict) and option.keys() == {"$ref"}):
                break
            option = self._target(option["$ref"], path)[1]
        return option

    def _target(self, pointer: Any, path: str) -> tuple[str, Any]:
        """Return the path and the schema that a reference leads to."""
        if not isinstance(pointer, str) or not re.match(r"#(/|$)", pointer):
            raise GrammarError("only references into the same schema, such as '#/$defs/x', are supported", path)
        target, place = "$", self._document
        for part in unquote(pointer[1:]).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
                target, place = f"{target}[{int(key)}]", place[int(key)]
            elif isinstance(place, dict) and key in place:
                target, place = _join(target, key), place[key]
            else:
                raise GrammarError("refers to nothing", path)
        return target, place


def _identity(item: Any, _: str) -> Any:
    return item


def as_object(schema: Any) -> Any:
    """Return the schema narrowed to objects."""
    if schema is True:
        return {"type": "object"}
    if not isinstance(schema, dict):
        return schema
    types = schema.get("type", "object")
    if "object" not in (types if isinstance(types, list) else [types]):
        raise GrammarError("arguments are always an object", "$.type")
    return {**schema, "type": "object"}


def _parse(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise GrammarError(f"not JSON: {error}", "$") from error


def encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if re.fullmatch(r"[\w$-]+", key) else f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def compile_error(text: str) -> str:
    """Return why llguidance refuses the grammar for any vocabulary, or ""."""
    is_error, messages = LLMatcher.validate_grammar_with_warnings(text, limits=PARSER_LIMITS)
    return messages[0] if is_error else ""
