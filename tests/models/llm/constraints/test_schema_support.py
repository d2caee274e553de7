"""JSON Schemas: the values that they admit and exclude, and the schemas that are refused."""

import json
from typing import Any

import pytest

from models.errors import GrammarError
from models.llm.constraints.forms import (
    ConstraintForm,
    JsonSchema,
    Regex,
    ToolCalls,
    ToolSchema,
)
from models.llm.constraints.grammar import Grammar
from models.llm.constraints.grammar_source import check
from models.llm.constraints.limits import MAX_DEPTH, MAX_NODES, MAX_TEXT
from tests.models.llm.constraints.schema_samples import CASES, PERSON
from tests.models.llm.constraints.vocabularies import Model, allows, schema


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
