"""Random walks over what a grammar allows, with real vocabularies: every answer must satisfy the constraint."""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from models.catalog import resolve_chat
from models.errors import GrammarError
from models.llm.constraints.forms import (
    ConstraintForm,
    JsonObject,
    JsonSchema,
    PrefixedForm,
    Regex,
    ToolCallForm,
    ToolCalls,
    ToolSchema,
)
from models.llm.constraints.grammar import Grammar
from models.llm.constraints.grammar_source import check
from models.llm.constraints.grammar_tokenizer import GrammarTokenizer
from models.llm.constraints.limits import MAX_CALLS, MAX_DEPTH, MAX_NODES, MAX_TEXT
from models.llm.llama.vocabulary import Vocabulary

BUILTIN = resolve_chat("reader-v1").path
SHARED = Path(__file__).parents[5] / "shared" / "vocab"
PATHS = [BUILTIN, *(SHARED / f"ggml-vocab-{name}.gguf" for name in ("qwen2", "llama-bpe", "llama-spm"))]
MAX_STEPS = 600


CLOSERS = ['"', "}", "]", ",", ", ", '"}', '"]', '",', ', "', '", "']


class Model(NamedTuple):
    vocabulary: Vocabulary
    tokenizer: GrammarTokenizer
    ends: set[int]
    closers: np.ndarray  # tokens that bring an answer nearer to its end

    def text(self, tokens: list[int]) -> str:
        return b"".join(map(self.vocabulary.piece, tokens)).decode()

    def is_text(self, tokens: list[int]) -> bool:
        return all(map(self.vocabulary.piece, tokens))  # control tokens have none

    def token(self, name: str) -> int:
        [token] = self.vocabulary.tokenize(name, parse_special=True)
        return token


def load_model(path: Path) -> Iterator[Model]:
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with Vocabulary(path) as vocabulary:
        tokenizer = GrammarTokenizer(vocabulary)
        closers = [tokens[0] for text in CLOSERS if len(tokens := tokenizer.llguidance.greedy_tokenize(text)) == 1]
        yield Model(vocabulary, tokenizer, set(vocabulary.end_tokens), np.array(closers))


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem.removeprefix("ggml-vocab-"))
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    yield from load_model(request.param)


@pytest.fixture(scope="module")
def builtin() -> Iterator[Model]:
    yield from load_model(BUILTIN)


def schema(value: object) -> JsonSchema:
    return JsonSchema(json.dumps(value))


def walk(model: Model, grammar: Grammar, seed: int) -> list[int]:
    """Return an answer that the grammar allows, without the token that ends it. Long ones are pressed to end."""
    rng = random.Random(seed)
    generated: list[int] = []
    for step in range(MAX_STEPS):
        allowed = grammar.after(generated)
        assert allowed.size and allowed.dtype == np.intp and allowed[-1] < model.vocabulary.size
        can_end = np.isin(model.tokenizer.end_tokens, allowed).sum()
        if can_end and (can_end == allowed.size or rng.random() < 0.5):
            return generated
        closers = model.closers[np.isin(model.closers, allowed)]
        choices = closers if closers.size and rng.random() < 0.2 + step / 60 else allowed
        token = int(choices[rng.randrange(len(choices))])
        if token not in model.ends:
            generated.append(token)
    pytest.fail(f"no end: {model.text(generated)!r}")


def allows(model: Model, constraint: ConstraintForm, text: str) -> bool:
    """Return whether the grammar allows the whole text as an answer, in whatever tokens."""
    grammar, generated, rest = Grammar(model.tokenizer, constraint), [], text.encode()
    while True:
        allowed = grammar.after(generated).tolist()
        if not rest:
            return not model.ends.isdisjoint(allowed)
        pieces = {model.vocabulary.piece(token): token for token in allowed}
        fits = [piece for piece in pieces if piece and rest.startswith(piece)]
        if not fits:
            return False
        piece = max(fits, key=len)
        generated.append(pieces[piece])
        rest = rest[len(piece) :]


# Walks

PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12, "description": "in full"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 130},
        "tags": {"type": "array", "items": {"enum": ["red", "blue", 3, None]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/tree",
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "value": {"$ref": "#/$defs/value"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
            },
            "required": ["value"],
            "additionalProperties": False,
        },
        "value": {"anyOf": [{"type": "boolean"}, {"const": "x"}]},
    },
}
PETS = {  # what pydantic makes of a discriminated union
    "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
    "discriminator": {"propertyName": "kind"},
    "$defs": {
        "Cat": {
            "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"type": "integer", "maximum": 9}},
            "required": ["kind", "lives"],
            "type": "object",
            "additionalProperties": False,
        },
        "Dog": {
            "properties": {"kind": {"const": "dog", "type": "string"}},
            "required": ["kind"],
            "type": "object",
            "additionalProperties": False,
        },
    },
}


def is_int(value: Any) -> bool:
    return type(value) is int


def is_person(v: Any) -> bool:
    return (
        {"name", "age"} <= v.keys() <= {"name", "age", "tags"}
        and 1 <= len(v["name"]) <= 12
        and is_int(v["age"])
        and 0 <= v["age"] < 130
        and len(v.get("tags", [])) <= 3
        and all(tag in ("red", "blue", 3, None) for tag in v.get("tags", []))
    )


def is_tree(v: Any) -> bool:
    children = v.get("children", [])
    return v["value"] in (True, False, "x") and len(children) <= 2 and all(map(is_tree, children))


CASES: dict[str, tuple[object, Callable[[Any], bool]]] = {
    "object": (PERSON, is_person),
    "recursive": (TREE, is_tree),
    "discriminated": (PETS, lambda v: v == {"kind": "dog"} or (v["kind"] == "cat" and v["lives"] <= 9)),
    "const": ({"const": {"a": [1, 'é"\\/\n', None]}}, lambda v: v == {"a": [1, 'é"\\/\n', None]}),
    "enum": ({"enum": ["a", "ab", 1.5, {"b": 2}]}, lambda v: v in ["a", "ab", 1.5, {"b": 2}]),
    "number": ({"type": "number", "minimum": -2.5, "maximum": 10}, lambda v: -2.5 <= v <= 10),
    "multiple": ({"type": "integer", "multipleOf": 7}, lambda v: is_int(v) and v % 7 == 0),
    "length": ({"type": "string", "minLength": 2, "maxLength": 4}, lambda v: 2 <= len(v) <= 4),
    "pattern": ({"type": "string", "pattern": "^[A-Z]{2}-\\d+$"}, lambda v: re.fullmatch("[A-Z]{2}-[0-9]+", v)),
    "part": ({"type": "string", "pattern": "[0-9]", "maxLength": 9}, lambda v: re.search("[0-9]", v) and len(v) <= 9),
    "no quotes": ({"type": "string", "pattern": '^[^"]*$'}, lambda v: '"' not in v),
    "no controls": ({"type": "string", "pattern": "^[^\\x00-\\x1f]+$"}, lambda v: v and min(v) > "\x1f"),
    "date": ({"type": "string", "format": "date"}, lambda v: re.fullmatch(r"\d{4}-[01]\d-[0-3]\d", v)),
    "any of": (
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "boolean"}}]},
        lambda v: v is None or all(type(i) is bool for i in v),
    ),
    "all of": (
        {
            "allOf": [
                {"type": "object", "required": ["a"]},
                {"properties": {"a": {"type": "integer"}}, "maxProperties": 1},
            ]
        },
        lambda v: v.keys() == {"a"} and is_int(v["a"]),
    ),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2},
        lambda v: list(map(type, v)) == [int, str],
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 2},
        lambda v: v and all(map(is_int, v.values())),
    ),
    "names": (
        {"type": "object", "patternProperties": {"^[^_]": {"type": "null"}}, "additionalProperties": False},
        lambda v: all(name[0] != "_" and item is None for name, item in v.items()),
    ),
    "others": (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        lambda v: all(is_int(item) if name == "a" else isinstance(item, str) for name, item in v.items()),
    ),
    "anything": ({"type": "object"}, lambda v: isinstance(v, dict)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_answer_a_schema_allows_is_valid(model: Model, name: str) -> None:
    document, is_valid = CASES[name]
    grammar = Grammar(model.tokenizer, schema(document))
    for seed in range(3):  # the grammar is used again: it must find its way back to the beginning
        generated = walk(model, grammar, seed)
        text = model.text(generated)
        assert is_valid(json.loads(text)), text
        assert model.is_text(generated)


@pytest.mark.parametrize("pattern", [r"(yes|no), because [a-z ]{1,9}\.", r"\d{4}-[01]\d", "é+|", "[^a-z]{3}"])
def test_every_answer_an_expression_allows_matches_it(model: Model, pattern: str) -> None:
    grammar = Grammar(model.tokenizer, Regex(pattern))
    for seed in range(3):
        text = model.text(walk(model, grammar, seed))
        assert re.fullmatch(pattern, text), text


def test_any_object_is_an_object(model: Model) -> None:
    assert isinstance(json.loads(model.text(walk(model, Grammar(model.tokenizer, JsonObject()), 7))), dict)


CITY = {
    "properties": {"city": {"$ref": "#/$defs/c"}},
    "required": ["city"],
    "$defs": {"c": {"enum": ["Bern", "Rome"]}},
    "additionalProperties": False,
}
TOOLS = (
    ToolSchema("get", json.dumps(CITY)),
    ToolSchema("get_all"),
    ToolSchema('odd "\\\n é', '{"type": "object", "maxProperties": 0}'),
)


@pytest.mark.parametrize("parallel", [False, True])
def test_tools_are_called_by_name_with_their_own_arguments(model: Model, parallel: bool) -> None:
    grammar = Grammar(model.tokenizer, ToolCalls(TOOLS, parallel=parallel))
    counts, names = set(), set()
    for seed in range(12 if parallel else 4):
        text = model.text(walk(model, grammar, seed))
        calls = re.findall(r"<tool_call>\n(.*)\n</tool_call>", text)
        assert "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls) == text
        for call in map(json.loads, calls):
            assert list(call) == ["name", "arguments"] and isinstance(call["arguments"], dict)
            assert call["name"] != "get" or call["arguments"]["city"] in ("Bern", "Rome")
            assert call["name"] in ("get", "get_all") or call["arguments"] == {}
            names.add(call["name"])
        counts.add(len(calls))
    assert counts == {1} if not parallel else len(counts) > 1
    assert names <= {tool.name for tool in TOOLS}


NAME = '{"properties": {"name": {"const": "cat"}}, "required": ["name"], "additionalProperties": false}'


def test_a_form_may_ask_for_control_tokens_and_a_name_may_not(builtin: Model) -> None:
    form = ToolCallForm("<|pad|>[", '{"tool": "', '", "with": ', "}", ", ", "]<|assistant|>")
    grammar = Grammar(builtin.tokenizer, ToolCalls((ToolSchema("<|system|>", NAME),), form))
    generated = walk(builtin, grammar, 0)
    assert generated[0] == builtin.token("<|pad|>") == 0 and generated[-1] == builtin.token("<|assistant|>")
    assert builtin.is_text(generated[1:-1])
    assert json.loads(builtin.text(generated)) == [{"tool": "<|system|>", "with": {"name": "cat"}}]


# What stands before and beside an answer


WAITING = PrefixedForm(
    ToolCalls((ToolSchema("get", json.dumps(CITY)),), trigger="<tool_call>"), ("<think>", "</think>")
)


def tokens(model: Model, text: str) -> list[int]:
    """Return a token for each letter as far as possible, so that no token spans the end of a trigger."""
    return [token for letter in text for token in model.vocabulary.tokenize(letter, parse_special=False)]


def test_text_is_unconstrained_until_a_trigger(builtin: Model) -> None:
    grammar = Grammar(builtin.tokenizer, WAITING)
    free_text = tokens(builtin, "I will look. <tool_cal")
    for size in range(len(free_text) + 1):
        assert grammar.after(free_text[:size]) is None
        assert grammar.forced_tokens(free_text[:size], 8) is None
    prefix = [*free_text, *tokens(builtin, "l>")]
    forced = grammar.forced_tokens(prefix, 50)
    assert forced is not None
    assert builtin.text(forced).startswith('\n{"name": "get", "arguments": {"city": "')
    assert grammar.after(free_text) is None  # a guess that was taken back


def test_a_call_behind_a_trigger_follows_its_schema_and_ends_the_answer(builtin: Model) -> None:
    grammar = Grammar(builtin.tokenizer, WAITING)
    text = '<tool_call>\n{"name": "get", "arguments": {"city": "Bern"}}\n</tool_call>'
    generated = tokens(builtin, f"Yes. {text}")
    assert set(np.asarray(grammar.after(generated)).tolist()) == builtin.ends
    with pytest.raises(GrammarError):
        grammar.after(tokens(builtin, "Yes. " + text.replace("Bern", "Oslo")))


def test_a_trigger_within_reasoning_constrains_nothing(builtin: Model) -> None:
    grammar = Grammar(builtin.tokenizer, WAITING)
    thought = tokens(builtin, "<think>maybe <tool_call> it</think>")
    assert grammar.after(thought) is None
    assert grammar.after([*thought, *tokens(builtin, "so <tool_call>")]) is not None


def test_text_stays_unconstrained_if_the_token_that_completes_a_trigger_fits_no_call(builtin: Model) -> None:
    joined = next(t for t in range(builtin.vocabulary.size) if re.fullmatch(rb"a[b-z]+", builtin.vocabulary.piece(t)))
    trigger = "a"
    form = ToolCallForm("", "a!", "", "")
    grammar = Grammar(builtin.tokenizer, PrefixedForm(ToolCalls((ToolSchema("get"),), form, trigger=trigger)))
    assert grammar.after([joined]) is None
    assert grammar.forced_tokens([joined], 4) is None
    assert grammar.after([joined, *tokens(builtin, " b")]) is None
    assert grammar.after(tokens(builtin, "a")) is not None


REASONING = ("<think>", "</think>")


@pytest.mark.parametrize("is_reasoning", [False, True])
def test_reasoning_may_come_before_a_form(builtin: Model, is_reasoning: bool) -> None:
    prefixed = PrefixedForm(schema({"const": 7}), REASONING, is_reasoning)
    begin = "" if is_reasoning else "<think>"
    assert allows(builtin, prefixed, f"{begin}Let me <see>.</think>\n\n7")
    assert allows(builtin, prefixed, f"{begin}x</think>7")
    assert allows(builtin, prefixed, "7") is not is_reasoning
    assert not allows(builtin, prefixed, f"{begin}x</think>8")


def test_scaffold_stands_between_reasoning_and_answer(builtin: Model) -> None:
    prefixed = PrefixedForm(schema({"const": 7}), ("<|pad|>", "<|system|>"), False, "<|user|>", "<|assistant|>")
    grammar = Grammar(builtin.tokenizer, prefixed)
    pad, system, user, assistant = map(builtin.token, ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"))
    seven = tokens(builtin, "7")
    for generated in ([pad, *tokens(builtin, "so"), system, user, assistant, *seven], [assistant, *seven]):
        assert set(np.asarray(grammar.after(generated)).tolist()) == builtin.ends


def test_an_answer_may_be_of_the_form_or_a_call(builtin: Model) -> None:
    either = ToolCalls((ToolSchema("get", json.dumps(CITY)),), otherwise=schema({"const": [1]}))
    assert allows(builtin, either, "[1]")
    assert allows(builtin, either, '<tool_call>\n{"name": "get", "arguments": {"city": "Rome"}}\n</tool_call>')
    assert not allows(builtin, either, "[2]")


def test_the_number_of_calls_is_limited(builtin: Model) -> None:
    call = '<tool_call>\n{"name": "get_all", "arguments": {}}\n</tool_call>'
    many = ToolCalls((ToolSchema("get_all", '{"type": "object", "maxProperties": 0}'),), parallel=True)
    assert allows(builtin, many, "\n".join([call] * MAX_CALLS))
    assert not allows(builtin, many, "\n".join([call] * (MAX_CALLS + 1)))


def test_a_call_form_may_have_the_name_twice(builtin: Model) -> None:
    form = ToolCallForm("", "to=", ' do="NAME">', "!", "")
    assert allows(builtin, ToolCalls((ToolSchema("a"),), form), 'to=a do="a">{}!')
    assert not allows(builtin, ToolCalls((ToolSchema("a"), ToolSchema("b")), form), 'to=a do="b">{}!')


# What comes next


def test_no_control_token_is_part_of_a_string(model: Model) -> None:
    grammar = Grammar(model.tokenizer, schema({"type": "string"}))
    quote = next(token for token in grammar.after([]).tolist() if model.vocabulary.piece(token) == b'"')
    allowed = set(grammar.after([quote]).tolist())
    assert len(allowed) > model.vocabulary.size / 2
    assert allowed.isdisjoint(model.ends | set(model.tokenizer.control.values()))


def test_forced_tokens_are_the_only_allowed_ones(model: Model) -> None:
    grammar = Grammar(model.tokenizer, schema(PERSON))
    forced = grammar.forced_tokens([], 100)
    assert model.text(forced).startswith('{"name"')
    assert grammar.forced_tokens([], 2) == forced[:2] and grammar.forced_tokens([], 0) == []
    for seed in range(3):
        generated = walk(model, grammar, seed)
        for size in range(len(generated) + 1):
            beginning = generated[:size]
            for i, token in enumerate(grammar.forced_tokens(beginning, 100)):
                assert (
                    grammar.after([*beginning, *generated[size : size + i]]).tolist()
                    == [token]
                    == [generated[size + i]]
                )


def test_a_long_text_is_forced_piece_by_piece(model: Model) -> None:
    text = json.dumps(" ".join(f"word{i}, «é»" for i in range(400)), ensure_ascii=False)
    grammar = Grammar(model.tokenizer, JsonSchema(f'{{"const": {text}}}'))
    generated: list[int] = []
    while forced := grammar.forced_tokens(generated, 10_000):
        generated += forced
    assert model.text(generated) == text
    assert set(grammar.after(generated).tolist()) == model.ends


def test_allowed_tokens_depend_on_the_generated_tokens_alone(model: Model) -> None:
    used = Grammar(model.tokenizer, schema(PERSON))
    generated = [*walk(model, used, 3), min(model.ends)]
    sizes = random.Random(0).sample(range(len(generated) + 1), k=min(20, len(generated)))
    for size in [*sizes, len(generated), 0]:
        fresh = Grammar(model.tokenizer, schema(PERSON))
        assert np.array_equal(used.after(generated[:size]), fresh.after(generated[:size]))
        assert used.forced_tokens(generated[:size], 9) == fresh.forced_tokens(generated[:size], 9)


def test_a_complete_answer_can_only_end(model: Model) -> None:
    grammar = Grammar(model.tokenizer, schema({"const": 1}))
    answer = grammar.forced_tokens([], 9) or grammar.after([]).tolist()
    for generated in (answer, [*answer, min(model.ends)], answer):
        assert set(grammar.after(generated).tolist()) == model.ends
        assert grammar.forced_tokens(generated, 9) == []


def test_tokens_that_were_not_allowed_raise_an_error(builtin: Model) -> None:
    grammar = Grammar(builtin.tokenizer, schema(PERSON))
    wrong = builtin.vocabulary.tokenize("no", parse_special=False)
    for _ in range(2):
        with pytest.raises(GrammarError, match="does not satisfy the constraint"):
            grammar.after(wrong)
    assert grammar.after([]).size


@pytest.mark.parametrize(
    ("document", "text"),
    [
        pytest.param({"type": "string", "pattern": '^[^"]*$'}, r'"\""', id="an escaped quote where none may be"),
        pytest.param({"type": "string", "pattern": r"^[^\\]*$"}, r'"\\"', id="an escaped backslash"),
        pytest.param({"type": "string", "pattern": r"^\P{Po}$"}, r'"\""', id="a quote is punctuation"),
        pytest.param(CASES["others"][0], r'{"\u0061": "x"}', id="a listed name spelled otherwise"),
        pytest.param({"type": "object"}, r'{"\ud800": 1}', id="half a character as a name"),
        pytest.param({"type": "string"}, r'"\ud800"', id="half a character"),
        pytest.param({"type": "string"}, '"\x01"', id="a control character"),
        pytest.param({"type": "integer"}, "1.0", id="a whole number with a point"),
        pytest.param({"type": "integer"}, "01", id="a leading zero"),
        pytest.param({"type": "integer", "maximum": 10}, "11", id="above the bound"),
        pytest.param({"type": "number", "exclusiveMinimum": 0}, "0.0", id="on an excluded bound"),
        pytest.param(PERSON, '{"age": 1, "name": "a"}', id="another order"),
        pytest.param(PERSON, '{"name": "a", "age": 1, "x": 1}', id="an unknown name"),
        pytest.param({"type": "object", "required": ["a"]}, "{}", id="nothing where something is required"),
        pytest.param({"type": "object"}, '{"a":1}', id="other spacing"),
    ],
)
def test_values_that_a_schema_excludes_are_not_allowed(builtin: Model, document: object, text: str) -> None:
    assert not allows(builtin, schema(document), text)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (CASES["others"][0], '{"a": 1, "b": "x", "ab": ""}'),
        ({"type": "string", "pattern": '^[^"]*$'}, r'"a\nb\\"'),
        ({"type": "string", "pattern": "a|^b$"}, '"xax"'),
        ({"type": "object", "properties": {"a/b": {}, "~": {"$ref": "#/properties/a~1b"}}}, '{"~": [true, -1.5e3]}'),
        ({"$id": "x", "$schema": "y", "x-order": 1, "properties": {"a": True}, "default": {"not": 1}}, "null"),
        ({"type": ["null", "integer"], "minimum": 3}, "3"),
        (True, '{"a": [{}, [], "", 0]}'),
    ],
)
def test_values_that_a_schema_admits_are_allowed(builtin: Model, document: object, text: str) -> None:
    assert allows(builtin, schema(document), text)


# Refusals


def nested_items(depth: int) -> dict[str, Any]:
    return {"items": nested_items(depth - 1)} if depth else {}


def array(depth: int) -> list[Any]:
    return [array(depth - 1)] if depth else []


REFUSED: list[tuple[ConstraintForm, str, str]] = [
    (
        schema({"properties": {"age": {"type": "integer", "multipleOf": 1_000_003}}}),
        "$.properties.age.multipleOf",
        "multiple",
    ),
    (schema({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}), "$.allOf[1].multipleOf", "multiple"),
    (schema({"multipleOf": 0}), "$.multipleOf", "above 0"),
    (schema({"multipleOf": 1e-300}), "$.multipleOf", "multiple"),
    (schema({"anyOf": [{}, {"uniqueItems": True}]}), "$.anyOf[1].uniqueItems", "not supported"),
    (schema({"properties": {"a b": {"not": {}}}}), '$.properties["a b"].not', "not supported"),
    (schema({"items": {"if": {}, "then": {}}}), "$.items.if", "not supported"),
    (schema({"typo": 1}), "$.typo", "not supported"),
    (schema({"lenient": True, "x-guidance": {"lenient": True}}), "$.lenient", "not supported"),
    (schema({"type": "strin"}), "$.type", "type"),
    (schema({"type": []}), "$.type", "type"),
    (schema({"type": [{}]}), "$.type", "type"),
    (schema({"required": "a"}), "$.required", "names"),
    (schema({"minLength": -1}), "$.minLength", "whole number"),
    (schema({"maxItems": True}), "$.maxItems", "whole number"),
    (schema({"minItems": 10**7}), "$.minItems", "million"),
    (schema({"minimum": 2**53 + 1}), "$.minimum", "2\\^53"),
    (schema({"minimum": "1"}), "$.minimum", "number"),
    (schema({"enum": []}), "$.enum", "list"),
    (schema({"enum": [10**20]}), "$.enum", "2\\^53"),
    (schema({"const": "\x00"}), "$.const", "control"),
    (schema({"format": "regex"}), "$.format", "date-time"),
    (schema({"anyOf": []}), "$.anyOf", "schemas"),
    (schema({"properties": []}), "$.properties", "schemas"),
    (schema({"items": [{}]}), "$.items", "not a schema"),
    (schema([]), "$", "not a schema"),
    (schema({"properties": {"x": {"type": "string", "pattern": "(?=a)"}}}), "$.properties.x.pattern", "not supported"),
    (schema({"properties": {"x": {"type": "string", "pattern": "a\\b"}}}), "$.properties.x.pattern", "not supported"),
    (schema({"type": "string", "pattern": "(a)\\1"}), "$.pattern", "backreference"),
    (schema({"type": "string", "pattern": "[[a]]"}), "$.pattern", "not supported"),
    (schema({"type": "string", "pattern": '[^"]|\\x00'}), "$.pattern", "U\\+0000"),
    (schema({"type": "string", "pattern": "a{1000000}"}), "$.pattern", "repetitions"),
    (schema({"patternProperties": {"(a{99}){999}": {}}}), '$.patternProperties["(a{99}){999}"]', "repetitions"),
    (schema({"$ref": "https://example.com/schema"}), "$.$ref", "same schema"),
    (schema({"$ref": "#/$defs/a"}), "$.$ref", "nothing"),
    (schema({"$ref": "#"}), "$", "itself"),
    (
        schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        "$.$defs.b",
        "itself",
    ),
    (schema({"properties": {"a": {"$id": "b"}}}), "$.properties.a.$id", "not supported"),
    (
        schema(
            {
                "$ref": "#/$defs/b",
                "$defs": {"b": {"properties": {"c": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}},
            }
        ),
        "$.$defs.b.properties.c.oneOf",
        "oneOf",
    ),
    (schema({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 2}), "$.minProperties", "required"),
    (
        schema({"items": {"type": "string", "minLength": 5, "maxLength": 3}, "minItems": 1, "type": "array"}),
        "$.items.minLength",
        "unsatisfiable",
    ),
    (schema({"type": "object", "properties": {"a": False}, "required": ["a"]}), "$.required", "unsatisfiable"),
    (schema(False), "", "false"),
    (JsonSchema("{"), "$", "not JSON"),
    (JsonSchema('{"const": NaN}'), "$", "not JSON"),
    (JsonSchema('{"const": "\\ud800"}'), "$", "not JSON"),
    (JsonSchema("[" * 60_000), "$", "not JSON"),
    (JsonSchema(json.dumps({"description": "a" * MAX_TEXT})), "$", "longer"),
    (schema(nested_items(MAX_DEPTH + 1)), "$" + ".items" * (MAX_DEPTH + 1), "in each other"),
    (schema({"const": array(MAX_DEPTH)}), "$.const", "in each other"),
    (schema({"properties": {f"p{i}": {} for i in range(MAX_NODES)}}), f"$.properties.p{MAX_NODES - 1}", "more than"),
    (schema({"enum": [{}] * MAX_NODES}), "$.enum", "more than"),
    (Regex("(" * 60_000 + ")" * 60_000), "", "longer"),
    (Regex("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH), "", "groups"),
    (Regex("(a{1000}){1000}"), "", "repetitions"),
    (Regex("((a{1,99}|b){99}){99}"), "", "repetitions"),
    (Regex("(?x)a # b"), "", "not supported"),
    (Regex("(?-u:\\xff)"), "", "not supported"),
    (Regex("a)"), "", "unopened"),
    (ToolCalls(()), "", "no tools"),
    (ToolCalls((ToolSchema("\ud800"),)), "", "Unicode"),
    (ToolCalls((ToolSchema("a"), ToolSchema("a"))), "", "'a'"),
    (ToolCalls((ToolSchema(""),)), "", "name"),
    (ToolCalls((ToolSchema("a", '{"type": "string"}'),)), "$.type", "'a'.*object"),
    (ToolCalls((ToolSchema("a"), ToolSchema("b", '{"properties": {"x": {"not": {}}}}'))), "$.properties.x.not", "'b'"),
    (
        ToolCalls((ToolSchema("a"), ToolSchema("b", '{"properties": {"x": {"type": "string", "pattern": "a\\\\b"}}}'))),
        "$.properties.x.pattern",
        "'b'",
    ),
    (
        ToolCalls(tuple(ToolSchema(f"t{i}", '{"properties": {"a": {}}}') for i in range(MAX_NODES // 2 + 1))),
        "$",
        "more than",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=[f"{path or 'all'}-{i}" for i, (_, path, _) in enumerate(REFUSED)])
def test_unenforceable_schemas_are_refused_with_their_path(
    builtin: Model, case: tuple[ConstraintForm, str, str]
) -> None:
    constraint, path, reason = case
    with pytest.raises(GrammarError, match=f"(?s){reason}") as checked:
        check(constraint)
    assert checked.value.path == path
    with pytest.raises(GrammarError) as compiled:
        Grammar(builtin.tokenizer, constraint)
    assert (compiled.value.path, compiled.value.reason) == (path, checked.value.reason)


def test_a_schema_that_allows_nothing_is_refused_when_it_is_compiled(builtin: Model) -> None:
    with pytest.raises(GrammarError, match="nothing"):
        Grammar(builtin.tokenizer, Regex(r"[^\x00-\x{10FFFF}]"))


def test_schemas_at_the_limits_are_accepted(builtin: Model) -> None:
    Grammar(builtin.tokenizer, schema(nested_items(MAX_DEPTH)))
    Grammar(builtin.tokenizer, schema({"properties": {f"p{i}": {} for i in range(MAX_NODES - 1)}}))
    Grammar(builtin.tokenizer, Regex("(" * (MAX_DEPTH - 1) + "a" + ")" * (MAX_DEPTH - 1)))
    Grammar(builtin.tokenizer, schema({"type": "string", "pattern": "^.{1,9999}$"}))
    Grammar(builtin.tokenizer, schema({"type": "number", "multipleOf": 0.01}))


@pytest.mark.parametrize("constraint", [schema({}), JsonObject(), Regex("a"), ToolCalls(TOOLS, parallel=True)])
def test_a_constraint_survives_encoding_in_a_frame(constraint: ConstraintForm) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(constraint), type=ConstraintForm) == constraint
