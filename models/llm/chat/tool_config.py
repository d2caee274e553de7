"""The tools a turn may call, and to what its calls can be held."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from models.errors import GrammarError, UnenforceableTool
from models.llm.chat.parser import Syntax
from models.llm.constraints.grammar import JsonObject, JsonSchema, Tool, ToolCalls, ToolForm, check
from models.llm.tool_syntax.calls import ForcedCall


class TokenNames(msgspec.Struct, frozen=True):
    """Of a vocabulary's control tokens: of those that end an answer, and of all."""

    ends: frozenset[str]
    control: frozenset[str]

    def without_end(self, scaffold: str) -> str:
        """What ends an answer is chosen where the grammar ends, and is no part of it."""
        return next((scaffold.removesuffix(name) for name in self.ends if scaffold.endswith(name)), scaffold)

    def can_wait_for(self, trigger: str) -> bool:
        """Whether it begins with a control token, or has none in it."""
        return bool(trigger) and (
            trigger.startswith(tuple(self.control)) or not any(c in trigger for c in self.control)
        )


class ToolConfig(msgspec.Struct, frozen=True):
    """`tools` are OpenAI function tools, all of which the model is told of; `callable_names` those it may call."""

    tools: tuple[Mapping[str, Any], ...]
    choice: Literal["auto", "required"] = "auto"
    callable_names: frozenset[str] | None = None  # None: all
    is_parallel: bool = True

    @property
    def callable_tools(self) -> list[Mapping[str, Any]]:
        names = self.callable_names
        return [tool for tool in self.tools if names is None or tool["function"]["name"] in names]

    def constraint(
        self, syntax: Syntax, names: TokenNames, form: JsonSchema | JsonObject | None = None
    ) -> ToolCalls | None:
        """What the calls are held to, None if to nothing; `form` is what an answer that calls nothing is held to.

        Raises `UnenforceableTool`.
        """
        trigger = syntax.trigger if names.can_wait_for(syntax.trigger) else ""
        if self.choice == "auto" and not form and not trigger:
            return None
        calls = ToolCalls(self._schemas(), _form(syntax.forced_call("NAME"), names), self._may_repeat(syntax))
        if self.choice == "required":
            return calls
        if form:
            return msgspec.structs.replace(calls, otherwise=form)
        return msgspec.structs.replace(calls, trigger=trigger)

    def _may_repeat(self, syntax: Syntax) -> bool:
        return self.is_parallel and syntax.forced_call("").separator is not None

    def _schemas(self) -> tuple[Tool, ...]:
        """Arguments that are not `strict` are any object where their schemas cannot be enforced."""
        tools = []
        for index, tool in enumerate(self.tools):
            if self.callable_names is None or tool["function"]["name"] in self.callable_names:
                tools.append(_enforceable(index, tool["function"]))
        if _refusal(tuple(tools)) is None:
            return tuple(tools)
        strict = {tool["function"]["name"] for tool in self.tools if tool["function"].get("strict")}
        tools = [tool if tool.name in strict else Tool(tool.name) for tool in tools]  # together too much
        if refusal := _refusal(tuple(tools)):
            raise UnenforceableTool(0, refusal)
        return tuple(tools)


def _enforceable(index: int, function: Mapping[str, Any]) -> Tool:
    tool = Tool(function["name"], json.dumps(function.get("parameters") or {}, ensure_ascii=False))
    if refusal := _refusal((tool,)):
        if function.get("strict"):
            raise UnenforceableTool(index, refusal)
        return Tool(tool.name)
    return tool


@lru_cache(maxsize=1024)
def _refusal(tools: Sequence[Tool]) -> GrammarError | None:
    """Clients send the same tools with every request of a conversation."""
    try:
        check(ToolCalls(tuple(tools)))
    except GrammarError as error:
        return error
    return None


def _form(forced: ForcedCall, names: TokenNames) -> ToolForm:
    before, between = forced.begin.split("NAME", 1)
    return ToolForm(
        forced.opening,
        before,
        between,
        names.without_end(forced.end),
        forced.separator or "",
        names.without_end(forced.closing),
    )
