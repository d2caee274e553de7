r"""Answers in a given form: JSON of a schema, a regular expression, tool calls. Constrained decoding by llguidance.

A schema is rewritten before llguidance sees it, keyword by keyword, so that nothing reaches the compiler which was
not checked here; what cannot be enforced raises `GrammarError` and is never ignored. Of JSON Schema draft 2020-12:

* `type`, `enum`, `const`; `anyOf`, `allOf`, and `oneOf` where its options exclude each other;
* `$ref` to a place in the same document (`#/$defs/x`, `#`), recursive if need be;
* `properties`, `required`, `additionalProperties`, `patternProperties`; `minProperties` and `maxProperties` where
  every listed property is required;
* `items`, `prefixItems`, `minItems`, `maxItems`;
* `minLength`, `maxLength`, `pattern` (no look-around, no back-references, Unicode; unanchored), `format` of `FORMATS`;
* `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`.

Annotations (`title`, `description`, `default`, …, `x-…`) are left out; any other keyword is refused. JSON is written
as Python's `json.dumps` and chat templates' `tojson` write it, `{"a": 1, "b": [true]}`: no other spaces, so that
whatever the schema settles is forced and costs no sampling. Properties come in the schema's order. Not enforced:
that names which only `additionalProperties` or `patternProperties` allow differ from each other.
"""

import json
import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

import msgspec
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from models.errors import ModelError

MAX_TEXT = 64 * 1024  # bytes of all schemas or of the expression
MAX_DEPTH = 32  # schemas, literals or groups of an expression in each other
MAX_NODES = 500  # schemas, and arrays and objects in literals, of all tools together
MAX_WEIGHT = 16_384  # characters of an expression with its counted repetitions written out
MAX_STEP = 10_000  # least common multiple of all `multipleOf`; llguidance makes as many states
MAX_EXACT = 2**53  # larger numbers are not exact in the compiler
FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"])

_MAX_FORCED = 1024  # bytes tokenized ahead
_MAX_TOKEN = 64  # bytes; only the last tokens of what was cut off ahead could be others without the cut
_LOCATING = 0.2  # seconds spent on finding which part of a refused schema is to blame
_LIMITS = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
_COMPILER = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "json_allowed_escapes": 'nrbtf\\"',  # with `u` names could be written so that `properties` does not know them
}


class GrammarError(ModelError):
    """What was asked for cannot be enforced. `path`: where in the schema, `$.properties.age`, or "" if unknown."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason = reason
        self.path = path


class JsonSchema(msgspec.Struct, tag=True, frozen=True):
    schema: str  # JSON


class JsonObject(msgspec.Struct, tag=True, frozen=True):
    pass


class Regex(msgspec.Struct, tag=True, frozen=True):
    r"""The whole answer matches `pattern`: syntax of Rust's regex crate, `\d` and `\w` of ASCII as in JSON Schema."""

    pattern: str


class Tool(msgspec.Struct, frozen=True):
    name: str
    parameters: str = "{}"  # JSON Schema of the arguments, which are always an object


class ToolForm(msgspec.Struct, frozen=True):
    """How a model writes calls: `opening`, calls with `separator` between them, `closing`. Here as Hermes and Qwen do.

    A call is `before`, the tool's name escaped as in a JSON string, `between`, the arguments, `after`. Names of the
    vocabulary's control tokens stand for those tokens: these texts are the server's, never a request's.
    """

    opening: str = ""
    before: str = '<tool_call>\n{"name": "'
    between: str = '", "arguments": '
    after: str = "}\n</tool_call>"
    separator: str = "\n"
    closing: str = ""


class ToolCalls(msgspec.Struct, tag=True, frozen=True):
    """One call of one of these tools, or with `parallel` one or several."""

    tools: tuple[Tool, ...]
    form: ToolForm = ToolForm()
    parallel: bool = False


Constraint = JsonSchema | JsonObject | Regex | ToolCalls


def check(constraint: Constraint) -> None:
    """Raises `GrammarError` for all that is wrong with it whatever the vocabulary: for the edge, before it queues."""
    source = _Source(constraint, {})
    if error := _compile_error(source.text):
        raise source.explain(error)


# Values of keywords


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
_ONE = frozenset({"items", "additionalProperties"})  # keywords with a schema
_LIST = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAP = frozenset({"properties", "patternProperties"})
_ANNOTATION = re.compile(
    r"x-.*|\$(schema|comment|defs|anchor|dynamicAnchor)|definitions|title|description|default|examples?|deprecated"
    r"|readOnly|writeOnly|content(Encoding|MediaType|Schema)|discriminator"
)
_BLAMED_LAST = {"type"} | _ONE | _LIST | _MAP  # without them almost anything compiles

# Regular expressions

_LEXEME = re.compile(
    r"(?P<class>\[\^?+(?:\\.|(?!&&|--|~~)[^\\\[\]])+\]|\\[pP](?:\{[^}]*\}|.))"
    r"|(?P<nul>\x00|\\(?:x00|u0000|U0{8}|[xuU]\{0+\}))|(?P<atom>\\[xuU]\{[^}]*\}|\\x..|\\u....|\\U.{8}|\\[^xuU])"
    r"|(?P<flags>\(\?[ims]+\))|(?P<open>\((?:\?(?:[ims]*:|P?<\w+>))?(?!\?))|(?P<close>\))"
    r"|(?P<times>\{(?P<least>\d+)(?:,(?P<most>\d*))?\})|(?P<other>[^\\\[({])",
    re.DOTALL,
)
_PLAIN_CLASS = re.compile(r"\[(?!\^)(?:[^\\\x00-\x1f]|\\[dws.\-\[\]/])+\]")


def _lexemes(pattern: str, path: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(pattern):
        match = _LEXEME.match(pattern, position)
        if not match:
            raise GrammarError(f"{pattern[position : position + 8]!r} in an expression is not supported", path)
        position = match.end()
        yield match


def _check_regex(pattern: str, path: str) -> None:
    """Bounds what an expression costs; whether it is one is the compiler's business."""
    open_groups = [(0, 0)]  # weight of all atoms but the last, and of the last
    for match in _lexemes(pattern, path):
        weight, last = open_groups[-1]
        if match["open"]:
            open_groups.append((0, 0))
        elif match["close"]:
            open_groups.pop()
            before, previous = open_groups.pop() if open_groups else (0, 0)
            open_groups.append((before + previous, weight + last))
        elif match["times"]:
            times = max(1, int(match["least"][:9]), int((match["most"] or "0")[:9]))
            open_groups[-1] = (weight, last * times)
        elif not match["flags"]:
            open_groups[-1] = (weight + last, 1)
        if len(open_groups) > MAX_DEPTH or sum(map(sum, open_groups)) > MAX_WEIGHT:
            raise GrammarError("too many groups in each other, or too many repetitions", path)


def _string_regex(pattern: str, path: str) -> str:
    r"""The expression for use inside JSON strings.

    A character class with all control characters lets llguidance 1.9.1 write `\"` and `\\` too, wanted or not
    (derivre's quote_byteset); so no class keeps U+0000, which `_COMPILER` lets no string contain anyway.
    """
    _check_regex(pattern, path)
    parts = []
    for match in _lexemes(pattern, path):
        if match["nul"]:
            raise GrammarError("U+0000 is not supported", path)
        is_risky = match["class"] and not _PLAIN_CLASS.fullmatch(match[0])
        parts.append(rf"[{match[0]}--\x00]" if is_risky else match[0])
    return "".join(parts)


# Schemas


class _Node(NamedTuple):
    path: str
    parent: str
    schema: dict[str, Any]


class _Budget:
    """What all schemas of one constraint share."""

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


class _Schema:
    """A JSON Schema, rewritten: known keywords only, and references only into a flat `$defs` of its own."""

    def __init__(self, text: str, budget: _Budget, *, object_only: bool = False) -> None:
        self._budget = budget
        budget.take_text(text, "$")
        self._document = _parse(text)
        if object_only:
            self._document = _as_object(self._document)
        self._names: dict[str, str] = {}  # of definitions, by pointer
        self._steps: list[Decimal] = []
        self.nodes: list[_Node] = []
        self._definitions: dict[str, Any] = {}
        self._root = self._read(self._document, "$", "", 0)
        while len(self._definitions) < len(self._names):
            pointer, name = list(self._names.items())[len(self._definitions)]
            path, schema = self._target(pointer, "")
            self._definitions[name] = self._read(schema, path, "", 0)
            self._check_cycle(name, path)

    def document(self, schema: Any = None) -> dict[str, Any]:
        """What to compile for the whole, or for one part of it alone."""
        root = self._root if schema is None else schema
        root = root if isinstance(root, dict) else {"allOf": [root]}
        return {"x-guidance": _COMPILER, **root, "$defs": self._definitions}

    def locate(self, deadline: float) -> str:
        """Path of the innermost schema that does not compile alone, and of its keyword if one is enough to blame.

        "" when all of it compiles. Past the deadline (`time.monotonic`) it makes do with what is found.
        """
        if not self.nodes or not self._error(self.nodes[0].schema):
            return ""
        culprit = self.nodes[0]
        for node in self.nodes[1:]:
            if node.parent in ("", culprit.path) and time.monotonic() < deadline and self._error(node.schema):
                culprit = node
        for keyword in sorted(culprit.schema, key=_BLAMED_LAST.__contains__):
            rest = {k: v for k, v in culprit.schema.items() if k != keyword}
            if time.monotonic() < deadline and not self._error(rest):
                return _join(culprit.path, keyword)
        return culprit.path

    def _error(self, schema: dict[str, Any]) -> str:
        return _compile_error(_encode({"grammars": [{"json_schema": self.document(schema)}]}))

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
        if keyword in _ONE:
            return self._read(value, path, parent, depth)
        if keyword in _LIST and isinstance(value, list) and value:
            inline = self._inline if keyword == "oneOf" else _identity
            return [self._read(inline(item, path), f"{path}[{i}]", parent, depth) for i, item in enumerate(value)]
        if keyword in _MAP and isinstance(value, dict):
            read = {name: self._read(item, _join(path, name), parent, depth) for name, item in value.items()}
            if keyword == "patternProperties":
                return {_string_regex(name, _join(path, name)): schema for name, schema in read.items()}
            return read
        if keyword == "$ref":
            return self._reference(value, path)
        if keyword in _LIST | _MAP:
            raise GrammarError("a list or a map of schemas is expected", path)
        return self._plain(keyword, value, path, depth)

    def _plain(self, keyword: str, value: Any, path: str, depth: int) -> Any:
        if keyword not in _VALUES:
            raise GrammarError(f"{keyword!r} is not supported", path)
        is_valid, expected = _VALUES[keyword]
        if not is_valid(value):
            raise GrammarError(f"{expected} is expected", path)
        if keyword == "pattern":
            return _string_regex(value, path)
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
        """Finds definitions that only refer to each other, when the last of them is read."""
        place: Any = {"$ref": f"#/$defs/{name}"}
        for _ in range(MAX_NODES):
            if not (isinstance(place, dict) and place.keys() == {"$ref"}):
                return
            place = self._definitions.get(place["$ref"].removeprefix("#/$defs/"))
        raise GrammarError("refers only to itself", path)

    def _inline(self, option: Any, path: str) -> Any:
        """What an option of `oneOf` refers to: llguidance looks through no reference for what tells options apart."""
        for _ in range(MAX_DEPTH):
            if not (isinstance(option, dict) and option.keys() == {"$ref"}):
                break
            option = self._target(option["$ref"], path)[1]
        return option

    def _target(self, pointer: Any, path: str) -> tuple[str, Any]:
        """Path and schema of the place a reference leads to."""
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


def _as_object(schema: Any) -> Any:
    """The schema, of objects only."""
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


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if re.fullmatch(r"[\w$-]+", key) else f"{path}[{json.dumps(key, ensure_ascii=False)}]"


# Grammars


class _Source:
    """A constraint in llguidance's own terms. `control`: the names of the vocabulary's control tokens."""

    def __init__(self, constraint: Constraint, control: Mapping[str, int]) -> None:
        self._control = control
        self._schemas: dict[str, _Schema] = {}  # by name of the tool
        self.control_tokens: set[int] = set()  # those it asks for
        match constraint:
            case JsonSchema(text):
                self.text = self._json(text)
            case JsonObject():
                self.text = self._json('{"type": "object"}')
            case Regex(pattern):
                _Budget().take_text(pattern, "")
                _check_regex(pattern, "")
                self.text = LLMatcher.grammar_from_regex(regex_to_lark(pattern, "dw"))
            case ToolCalls(tools, form, parallel):
                self.text = self._calls(tools, form, parallel)

    def explain(self, message: str) -> GrammarError:
        """The error for what the compiler said."""
        reason = re.search(r"error: (.+)", message) or re.match(r"(.*?)(\. |\n|$)", message)
        text = reason[1][:200] if reason else message
        deadline = time.monotonic() + _LOCATING
        for name, schema in self._schemas.items():
            if path := schema.locate(deadline):
                return GrammarError(f"tool {name!r}: {text}" if name else text, path)
        return GrammarError(text)

    def _json(self, text: str) -> str:
        schema = self._schemas[""] = _Schema(text, _Budget())
        return _encode({"grammars": [{"json_schema": schema.document()}]})

    def _calls(self, tools: tuple[Tool, ...], form: ToolForm, parallel: bool) -> str:
        budget = _Budget()
        for tool in tools:
            if not tool.name or tool.name in self._schemas:
                raise GrammarError(f"tool {tool.name!r}: a name of its own is expected")
            budget.take_text(tool.name, "")
            try:
                self._schemas[tool.name] = _Schema(tool.parameters, budget, object_only=True)
            except GrammarError as error:
                raise GrammarError(f"tool {tool.name!r}: {error.reason}", error.path) from error
        if not tools:
            raise GrammarError("no tools to call")
        more = f"({self._literal(form.separator)} call)*" if parallel else ""
        rules = [
            f"start: {self._literal(form.opening)} call {more} {self._literal(form.closing)}",
            "call: " + " | ".join(f"call{i}" for i in range(len(tools))),
        ]
        for i, tool in enumerate(tools):
            name = json.dumps(json.dumps(tool.name, ensure_ascii=False)[1:-1], ensure_ascii=False)
            head = f"{self._literal(form.before)} {name} {self._literal(form.between)}"
            rules.append(f"call{i}: {head} @arguments{i} {self._literal(form.after)}")
        grammars: list[dict[str, Any]] = [{"lark_grammar": "\n".join(rules)}]
        for i, schema in enumerate(self._schemas.values()):
            grammars.append({"name": f"arguments{i}", "json_schema": schema.document()})
        return _encode({"grammars": grammars})

    def _literal(self, text: str) -> str:
        """Exactly this text, with control tokens where their names are."""
        names = sorted(self._control, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
        terms = []
        for part in filter(None, parts):
            if part in self._control:
                self.control_tokens.add(self._control[part])
                terms.append(f"<[{self._control[part]}]>")
            else:
                terms.append(json.dumps(part, ensure_ascii=False))
        return " ".join(terms)


def _compile_error(text: str) -> str:
    """What llguidance has against it, or ""; any vocabulary."""
    is_error, messages = LLMatcher.validate_grammar_with_warnings(text, limits=_LIMITS)
    return messages[0] if is_error else ""


class Vocabulary(Protocol):
    """What is needed of `models.llm.llama.Vocabulary`."""

    @property
    def size(self) -> int: ...
    @property
    def end_tokens(self) -> Collection[int]: ...
    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


class _Pieces:
    """A vocabulary as llguidance's `TokenizerWrapper` wants it. Called by it to tokenize what a grammar forces.

    Must not raise and must give back the very bytes: llguidance relies on both.
    """

    def __init__(self, vocabulary: Vocabulary, end_token: int) -> None:
        self._tokenize = vocabulary.tokenize
        self.tokens = [vocabulary.piece(token) for token in range(vocabulary.size)]
        self.special_token_ids = [token for token, piece in enumerate(self.tokens) if not piece]
        for token in self.special_token_ids:
            self.tokens[token] = vocabulary.piece(token, special=True)
        self.eos_token_id = end_token
        self.bos_token_id = None
        self.greedy: Callable[[str], list[int]] | None = None
        self._lead = ""  # what a SentencePiece vocabulary puts its own space in front of
        if self._bytes(vocabulary.tokenize("a", parse_special=False)) != b"a":
            self._lead = "\x02"
        self._num_lead = len(self._tokenize(self._lead, parse_special=False))

    def __call__(self, data: bytes) -> list[int]:
        text = data[:_MAX_FORCED].decode(errors="ignore")
        tokens = self._tokenize(self._lead + text, parse_special=False)[self._num_lead :]
        if self._bytes(tokens) != text.encode() and self.greedy:
            tokens = self.greedy(text)
        num_cut = 0
        while len(data) > _MAX_FORCED and num_cut < _MAX_TOKEN and len(tokens) > 1:
            num_cut += len(self.tokens[tokens.pop()])
        return tokens

    def _bytes(self, tokens: list[int]) -> bytes:
        return b"".join([self.tokens[token] for token in tokens])


class GrammarTokenizer:
    """A vocabulary made ready for grammars: once for each loaded model, about a second for 150,000 tokens.

    The vocabulary must stay open as long as this or a `Grammar` made with it is used.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises `GrammarError` when the vocabulary has no end token: no answer could be complete."""
        if not vocabulary.end_tokens:
            raise GrammarError("the model's vocabulary has no token that ends an answer")
        ends = sorted(vocabulary.end_tokens)
        pieces = _Pieces(vocabulary, ends[0])
        self.llguidance = LLTokenizer(TokenizerWrapper(pieces), eos_token=ends)
        pieces.greedy = self.llguidance.greedy_tokenize
        self.size = len(pieces.tokens)
        self.end_tokens = np.array(ends, dtype=np.intp)
        names = {token: pieces.tokens[token].decode(errors="replace") for token in pieces.special_token_ids}
        self.control = {name: token for token, name in names.items() if name and token not in vocabulary.end_tokens}
        self._is_plain = np.ones(self.size, dtype=np.bool_)
        self._is_plain[pieces.special_token_ids] = False
        self._is_plain[ends] = True

    def usable(self, control_tokens: Collection[int]) -> NDArray[np.bool_]:
        """Of all tokens: those that are no control tokens, those that end, and these."""
        usable = self._is_plain.copy()
        usable[list(control_tokens)] = True
        return usable


class Grammar:
    """What one sequence may say next. Belongs to one sequence and one thread.

    `after` and `forced` depend on `generated` alone, whatever was asked before; a call that goes on from the last one
    costs only what is new.
    """

    def __init__(self, tokenizer: GrammarTokenizer, constraint: Constraint) -> None:
        """Raises `GrammarError`: not supported, not valid, too large, or nothing satisfies it."""
        source = _Source(constraint, tokenizer.control)
        self._matcher = LLMatcher(tokenizer.llguidance, source.text, log_level=0, limits=_LIMITS)
        self._tokenizer = tokenizer
        self._usable = tokenizer.usable(source.control_tokens)
        self._mask = allocate_token_bitmask(1, tokenizer.size)
        self._consumed: list[int] = []
        if self._matcher.is_error():
            raise source.explain(self._matcher.get_error())
        self.after([])

    def after(self, generated: list[int]) -> NDArray[np.intp]:
        """The tokens that may follow; the end tokens once the answer is complete. Never empty.

        Raises `GrammarError` when going on takes more than the limits, or `generated` is not what it allowed.
        """
        if generated and generated[-1] in self._tokenizer.end_tokens:
            return self._tokenizer.end_tokens
        self._follow(generated)
        if self._matcher.is_stopped():
            return self._tokenizer.end_tokens
        fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8)[0], count=self._tokenizer.size, bitorder="little")
        allowed = (bits.view(np.bool_) & self._usable).nonzero()[0]
        if not allowed.size:
            raise GrammarError("nothing can follow")
        return allowed

    def forced(self, generated: list[int], limit: int) -> list[int]:
        """The next tokens, at most `limit`, as far as there is only one way to go on. Raises as `after`."""
        if limit <= 0 or (generated and generated[-1] in self._tokenizer.end_tokens):
            return []
        self._follow(generated)
        if self._matcher.is_stopped():
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return tokens[:limit]

    def _follow(self, generated: list[int]) -> None:
        """Brings the matcher to where these tokens lead."""
        consumed = self._consumed
        if generated[: len(consumed)] != consumed:
            num_kept = next(
                (i for i, (old, new) in enumerate(zip(consumed, generated, strict=False)) if old != new),
                min(len(consumed), len(generated)),
            )
            self._matcher.rollback(len(consumed) - num_kept)
            del consumed[num_kept:]
        new = generated[len(consumed) :]
        num_new = self._matcher.try_consume_tokens(new) if new else 0
        consumed += new[:num_new]
        self._check()
        if num_new < len(new):
            raise GrammarError("the answer so far is not what was asked for")

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("\n")[0]
            raise GrammarError(reason[:200] if " " in reason else "nothing can follow")
