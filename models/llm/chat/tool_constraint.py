"""The constraint that keeps the calls of a turn to the schemas of its tools."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from models.errors import GrammarError, UnenforceableTool
from models.llm.chat.output_syntax import OutputSyntax
from models.llm.chat.tool_config import ToolConfig
from models.llm.constraints.forms import AnswerForm, ToolCallForm, ToolCalls, ToolSchema
from models.llm.constraints.grammar_source import check
from models.llm.tool_syntax.calls import ForcedCall


class TokenNames(msgspec.Struct, frozen=True):
    """The names of a vocabulary's control tokens: of those that end an answer, and of those that mark calls."""

    ends: frozenset[str]
    control: frozenset[str]

    def without_end(self, scaffold: str) -> str:
        """Return the scaffold without an end token at its end, which the engine adds where the grammar ends."""
        return next((scaffold.removesuffix(name) for name in self.ends if scaffold.endswith(name)), scaffold)

    def can_wait_for(self, trigger: str) -> bool:
        """Return whether the text can be a trigger: it begins with a control token, or has none in it."""
        return bool(trigger) and (
            trigger.startswith(tuple(self.control)) or not any(c in trigger for c in self.control)
        )


def tool_constraint(
    config: ToolConfig, syntax: OutputSyntax, names: TokenNames, form: AnswerForm | None = None
) -> ToolCalls | None:
    """Return what the calls are constrained to, None if to nothing. An answer without a call is constrained to `form`.

    Raises `UnenforceableTool`.
    """
    trigger = syntax.trigger if names.can_wait_for(syntax.trigger) else ""
    if config.choice == "auto" and not form and not trigger:
        return None
    may_repeat = config.is_parallel and syntax.forced_call("").separator is not None
    calls = ToolCalls(_tool_schemas(config), _call_form(syntax.forced_call("NAME"), names), may_repeat)
    if config.choice == "required":
        return calls
    if form:
        return msgspec.structs.replace(calls, otherwise=form)
    return msgspec.structs.replace(calls, trigger=trigger)


def _tool_schemas(config: ToolConfig) -> tuple[ToolSchema, ...]:
    """Return the schemas of the callable tools; any object where a schema that is not `strict` cannot be enforced."""
    schemas = [
        _enforceable(index, tool["function"])
        for index, tool in enumerate(config.tools)
        if config.callable_names is None or tool["function"]["name"] in config.callable_names
    ]
    if _refusal(tuple(schemas)) is None:
        return tuple(schemas)
    strict = {tool["function"]["name"] for tool in config.tools if tool["function"].get("strict")}
    schemas = [schema if schema.name in strict else ToolSchema(schema.name) for schema in schemas]  # together too much
    if refusal := _refusal(tuple(schemas)):
        raise UnenforceableTool(0, refusal)
    return tuple(schemas)


def _enforceable(index: int, function: Mapping[str, Any]) -> ToolSchema:
    schema = ToolSchema(function["name"], json.dumps(function.get("parameters") or {}, ensure_ascii=False))
    if refusal := _refusal((schema,)):
        if function.get("strict"):
            raise UnenforceableTool(index, refusal)
        return ToolSchema(schema.name)
    return schema


@lru_cache(maxsize=1024)
def _refusal(schemas: Sequence[ToolSchema]) -> GrammarError | None:
    """Return why the schemas cannot be enforced together. Cached: a conversation repeats its tools in every request."""
    try:
        check(ToolCalls(tuple(schemas)))
    except GrammarError as error:
        return error
    return None


def _call_form(forced: ForcedCall, names: TokenNames) -> ToolCallForm:
    before, between = forced.begin.split("NAME", 1)
    return ToolCallForm(
        forced.opening,
        before,
        between,
        names.without_end(forced.end),
        forced.separator or "",
        names.without_end(forced.closing),
    )
