"""Bounded schemas: all their answers are valid under the schema, and every answer ends."""

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from models.catalog import resolve_chat
from models.llm.constraints.bounded_schema import bound_schema, bound_schemas
from models.llm.constraints.forms import ConstraintForm, JsonObject, JsonSchema, PrefixedForm, ToolCalls, ToolSchema
from models.llm.constraints.grammar import Grammar
from models.llm.constraints.grammar_tokenizer import GrammarTokenizer
from models.llm.llama.vocabulary import Vocabulary

MOST = 1000  # tokens, of which the schemas here have room for a few values
CITY = {"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer"}}, "required": ["name"]}
POINT = {"type": "object", "properties": {"x": {"type": "number"}, "tags": {"type": "array", "items": CITY}}}
MAYBE = {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Maybe"}


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[Vocabulary]:
    with Vocabulary(resolve_chat("reader-v1").path) as vocabulary:
        yield vocabulary


def schema(value: object) -> JsonSchema:
    return JsonSchema(json.dumps(value))


def ramble(vocabulary: Vocabulary, constraint: ConstraintForm, rng: Random) -> str | None:
    """Generate at random without ever choosing to end; None if the constraint does not end the answer either."""
    grammar = Grammar(GrammarTokenizer(vocabulary), constraint)
    closing = {token for token in range(vocabulary.size) if set(vocabulary.piece(token)) & set(b'"}],')}
    answer: list[int] = []
    while len(answer) < MOST:
        allowed = grammar.after(answer)
        assert allowed is not None
        tokens = allowed.tolist()
        ends = vocabulary.end_tokens | closing
        answer.append(rng.choice([token for token in tokens if token not in ends] or tokens))
        if answer[-1] in vocabulary.end_tokens:
            return b"".join(map(vocabulary.piece, answer[:-1])).decode()
    return None


def is_city(value: Any) -> bool:
    return isinstance(value["name"], str) and isinstance(value.get("size", 1), int)


CASES: list[tuple[Any, Callable[[Any], bool]]] = [
    ({"type": "string"}, lambda value: isinstance(value, str)),
    ({"type": "string", "minLength": 90}, lambda value: len(value) >= 90),
    ({"type": "integer", "minimum": 5_000_000}, lambda value: value >= 5_000_000),
    ({"type": "number"}, lambda value: isinstance(value, (int, float))),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, lambda value: 0 < value <= 1),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 6}, lambda value: len(value) == 6),
    ({"type": "object", "additionalProperties": {"type": "string"}}, lambda value: isinstance(value, dict)),
    ({}, lambda value: True),
    (CITY, is_city),
    (POINT, lambda value: all(map(is_city, value.get("tags", ())))),
    ({"$ref": "#/$defs/c", "$defs": {"c": CITY}}, is_city),
    (MAYBE, lambda value: value is None or isinstance(value, str)),
    ({"properties": {"a": MAYBE}, "required": ["a"], "type": "object"}, lambda value: "a" in value),
    ({"enum": ["red", "green"]}, lambda value: value in ("red", "green")),
]


@pytest.mark.parametrize(("document", "is_valid"), CASES, ids=[json.dumps(document) for document, _ in CASES])
def test_a_bounded_schema_makes_any_answer_end(
    vocabulary: Vocabulary, document: Any, is_valid: Callable[[Any], bool]
) -> None:
    for seed in range(3):
        answer = ramble(vocabulary, PrefixedForm(schema(document), is_bounded=True), Random(seed))
        assert answer is not None
        assert is_valid(json.loads(answer)), answer


def test_an_answer_of_an_unbounded_schema_may_not_end(vocabulary: Vocabulary) -> None:
    assert ramble(vocabulary, PrefixedForm(schema(CITY)), Random(1)) is None


@pytest.mark.parametrize("constraint", [JsonObject(), ToolCalls((ToolSchema("add", json.dumps(CITY)),))])
def test_bounded_objects_and_arguments_end_too(vocabulary: Vocabulary, constraint: JsonObject | ToolCalls) -> None:
    assert ramble(vocabulary, PrefixedForm(constraint, is_bounded=True), Random(2)) is not None


@pytest.mark.parametrize(
    "document",
    [
        {"allOf": [{"type": "string"}, {"minLength": 100}]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/t", "minLength": 100}}, "$defs": {"t": {}}},
    ],
)
def test_schemas_that_apply_together_are_not_narrowed(document: dict[str, Any]) -> None:
    parts = [document, *document.get("properties", {}).values()]
    before = copy.deepcopy(parts)
    bound_schemas(parts)
    assert parts == before


@pytest.mark.parametrize(
    ("document", "narrowed"),
    [
        ({"type": "string", "pattern": "a+"}, {"type": "string", "pattern": "a+"}),
        ({"type": "string", "maxLength": 900}, {"type": "string", "maxLength": 900}),
        ({"type": "integer", "maximum": -9}, {"type": "integer", "maximum": -9, "minimum": -1_000_008}),
        ({"type": "number", "minimum": 0.5}, {"type": "number", "minimum": 0.5, "maximum": 999_999}),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
        ({"type": "object", "required": ["a"]}, {"type": "object", "required": ["a"]}),
        (
            {"type": "object", "properties": {"a": {}}, "required": ["b"]},
            {"type": "object", "properties": {"a": {}}, "required": ["b"]},
        ),
        ({"const": "a" * 100}, {"const": "a" * 100}),
    ],
)
def test_keywords_that_bound_a_schema_are_kept(document: dict[str, Any], narrowed: dict[str, Any]) -> None:
    bound_schema(document)
    assert document == narrowed
