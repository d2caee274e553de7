"""Random walks over what a grammar allows, with real vocabularies: every answer must satisfy the constraint."""

import json
import random
import re

import msgspec
import numpy as np
import pytest

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
from models.llm.constraints.limits import MAX_CALLS
from tests.models.llm.constraints.schema_samples import CASES, PERSON
from tests.models.llm.constraints.vocabularies import Model, allows, schema

MAX_STEPS = 600


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


@pytest.mark.parametrize("constraint", [schema({}), JsonObject(), Regex("a"), ToolCalls(TOOLS, parallel=True)])
def test_a_constraint_survives_encoding_in_a_frame(constraint: ConstraintForm) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(constraint), type=ConstraintForm) == constraint
