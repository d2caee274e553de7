"""The constraint of calls, by the request's choice, the model's family and its vocabulary."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import UnenforceableTool
from models.llm.chat.output_syntax import OutputSyntax
from models.llm.chat.tool_config import ToolConfig
from models.llm.chat.tool_constraint import TokenNames, tool_constraint
from models.llm.constraints.forms import JsonObject, PrefixedForm, ToolCalls, ToolSchema
from models.llm.constraints.grammar_source import check

HERMES, LLAMA, HARMONY = "<tool_call>", '<|start_header_id|> "parameters": ', "<|channel|> <|message|>"
NAMES = TokenNames(frozenset({"<|im_end|>", "<|call|>"}), frozenset({"<|channel|>", "<|message|>"}))
DAYS = {"type": "object", "properties": {"days": {"type": "integer"}}}
ODD = {"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 3}}}}


def tool(name: str, parameters: Any = None, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


def constrain(source: str, tool_config: ToolConfig, form: JsonObject | None = None) -> ToolCalls | None:
    return tool_constraint(tool_config, OutputSyntax.of(source), NAMES, form)


def test_required_calls_are_constrained_to_the_allowed_tools() -> None:
    tool_config = ToolConfig((tool("a", DAYS), tool("b")), "required", frozenset({"b"}))
    calls = constrain(HERMES, tool_config)
    assert calls is not None
    assert calls.tools == (ToolSchema("b"),)
    assert (calls.parallel, calls.trigger) == (True, "")
    assert [t["function"]["name"] for t in tool_config.callable_tools] == ["b"]


@pytest.mark.parametrize(
    ("source", "trigger"), [(HERMES, "<tool_call>"), (LLAMA, None), (HARMONY, "<|channel|>commentary to=functions.")]
)
def test_optional_calls_have_a_trigger_if_the_family_has_one(source: str, trigger: str | None) -> None:
    calls = constrain(source, ToolConfig((tool("a"),)))
    assert (calls and calls.trigger) == trigger


def test_optional_calls_beside_a_form_are_an_alternative_to_it() -> None:
    calls = constrain(LLAMA, ToolConfig((tool("a"),)), JsonObject())
    assert calls is not None
    assert (calls.otherwise, calls.trigger) == (JsonObject(), "")


def test_a_turn_has_one_call_if_parallel_calls_are_off_or_cannot_be_written() -> None:
    one = constrain(HERMES, ToolConfig((tool("a"),), "required", is_parallel=False))
    llama = constrain(LLAMA, ToolConfig((tool("a"),), "required"))
    assert one and not one.parallel
    assert llama and not llama.parallel


def test_a_token_that_ends_an_answer_is_no_part_of_a_call() -> None:
    calls = constrain(HARMONY, ToolConfig((tool("a"),), "required"))
    assert calls is not None
    assert calls.form.after == ""


def test_a_schema_that_is_not_strict_and_cannot_be_enforced_allows_any_object() -> None:
    calls = constrain(HERMES, ToolConfig((tool("a", DAYS), tool("b", ODD)), "required"))
    assert calls is not None
    assert calls.tools[1] == ToolSchema("b")
    assert "days" in calls.tools[0].parameters


def test_a_strict_schema_that_cannot_be_enforced_is_refused_with_its_tool() -> None:
    with pytest.raises(UnenforceableTool) as caught:
        constrain(HERMES, ToolConfig((tool("a", DAYS), tool("b", ODD, strict=True)), "required"))
    assert (caught.value.index, caught.value.path) == (1, "$.properties.n.not")


def test_schemas_that_are_too_large_together_allow_any_object_unless_strict() -> None:
    wide = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(200)}}
    tools = tuple(tool(f"t{i}", wide) for i in range(4))
    calls = constrain(HERMES, ToolConfig((*tools, tool("s", DAYS, strict=True)), "required"))
    assert calls is not None
    assert [t.parameters for t in calls.tools[:4]] == ["{}"] * 4
    assert "days" in calls.tools[4].parameters


def test_a_marker_of_text_and_then_a_control_token_is_no_trigger() -> None:
    assert not NAMES.can_wait_for("function call<|message|>\n")
    assert NAMES.can_wait_for("<|channel|>commentary")
    assert not NAMES.can_wait_for("")


TEMPLATES = sorted((Path(__file__).parents[5] / "shared" / "chat_templates").glob("*.jinja"))


@pytest.mark.skipif(not TEMPLATES, reason="the templates are not here")
@pytest.mark.parametrize("form", [None, JsonObject()])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_calls_of_every_family_can_be_constrained(choice: Any, form: JsonObject | None) -> None:
    for path in TEMPLATES:
        syntax = OutputSyntax.of(path.read_text())
        thinking = (syntax.reasoning.begin, syntax.reasoning.end) if syntax.reasoning else None
        calls = tool_constraint(ToolConfig((tool("add", DAYS),), choice), syntax, NAMES, form)
        assert calls or (choice, form) == ("auto", None)
        for is_thinking in (False, True):
            check(PrefixedForm(calls or JsonObject(), thinking, is_thinking, syntax.family.after_reasoning))
