"""A constraint in llguidance's own terms: rules of its Lark dialect and JSON Schemas."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher, regex_to_lark

from models.errors import GrammarError
from models.llm.constraints.forms import ConstraintForm, JsonObject, JsonSchema, PrefixedForm, Regex, ToolCalls
from models.llm.constraints.json_schema import Schema, SchemaBudget, compile_error, encode
from models.llm.constraints.limits import MAX_CALLS
from models.llm.constraints.regex import check_regex

_LOCATING_S = 0.2  # for finding the part of a refused schema that is to blame


def check(constraint: ConstraintForm) -> None:
    """Raise `GrammarError` for what no vocabulary can enforce, so that a request is refused before it queues."""
    source = GrammarSource(constraint, {})
    if error := compile_error(source.text):
        raise source.explain(error)


class GrammarSource:
    """The text of a constraint for llguidance."""

    def __init__(self, constraint: ConstraintForm, control: Mapping[str, int]) -> None:
        """`control` are the vocabulary's control tokens by name. Raises `GrammarError`."""
        self._control = control
        self._schemas: dict[str, Schema] = {}  # by name of the tool, "" for the answer itself
        self._rules: list[str] = []
        self._budget = SchemaBudget()
        self.control_tokens: set[int] = set()  # of the vocabulary, those that answers have
        if isinstance(constraint, Regex):
            self._budget.take_text(constraint.pattern, "")
            check_regex(constraint.pattern, "")
            self.text = LLMatcher.grammar_from_regex(regex_to_lark(constraint.pattern, "dw"))
            return
        prefixed = constraint if isinstance(constraint, PrefixedForm) else PrefixedForm(constraint)
        self._is_bounded = prefixed.is_bounded
        start = self._prefix(prefixed, self._answer(prefixed.answer))
        grammars: list[dict[str, Any]] = [{"lark_grammar": "\n".join([f"start: {start}", *self._rules])}]
        for i, schema in enumerate(self._schemas.values()):
            grammars.append({"name": f"schema{i}", "json_schema": schema.document()})
        self.text = encode({"grammars": grammars})

    def explain(self, message: str) -> GrammarError:
        """Return the error for a message of the compiler, with the path of the schema to blame."""
        reason = re.search(r"error: (.+)", message) or re.match(r"(.*?)(\. |\n|$)", message)
        text = reason[1][:200] if reason else message
        deadline = time.monotonic() + _LOCATING_S
        for name, schema in self._schemas.items():
            if path := schema.locate(deadline):
                return GrammarError(f"tool {name!r}: {text}" if name else text, path)
        return GrammarError(text)

    def _answer(self, constraint: JsonSchema | JsonObject | ToolCalls) -> str:
        match constraint:
            case JsonSchema(text):
                return self._json(text)
            case JsonObject():
                return self._json('{"type": "object"}')
            case ToolCalls():
                calls = self._calls(constraint)
                return f"({calls}) | {self._answer(constraint.otherwise)}" if constraint.otherwise else calls

    def _prefix(self, prefixed: PrefixedForm, answer: str) -> str:
        answer = f"{self._literal(prefixed.before_answer)} ({answer})" if prefixed.before_answer else answer
        if not prefixed.reasoning or (isinstance(prefixed.answer, ToolCalls) and prefixed.answer.trigger):
            return answer
        begin, end = prefixed.reasoning
        reasoning = f"{self._up_to(end)} {self._literal(prefixed.after_reasoning)} GAP"
        self._rules.append(r"GAP: /[ \n]{0,4}/")
        reasoning = reasoning if prefixed.is_reasoning else f"({self._literal(begin)} {reasoning})?"
        return f"{reasoning} ({answer})"

    def _up_to(self, end: str) -> str:
        """Return a rule for any text up to `end`, which begins with the name of a control token or has none in it."""
        self._rules.append(r"ANYTHING: /(.|\n)*/")
        literal = self._literal(end)
        if literal.startswith("<"):
            return f"ANYTHING {literal}"
        self._rules.append(f"up_to[lazy]: ANYTHING {literal}")
        return "up_to"

    def _json(self, text: str) -> str:
        self._schemas[""] = Schema(text, self._budget, is_bounded=self._is_bounded)
        return f"@schema{len(self._schemas) - 1}"

    def _calls(self, tool_calls: ToolCalls) -> str:
        for tool in tool_calls.tools:
            if not tool.name or tool.name in self._schemas:
                raise GrammarError(f"tool {tool.name!r}: a name of its own is expected")
            self._budget.take_text(tool.name, "")
            try:
                self._schemas[tool.name] = Schema(
                    tool.parameters, self._budget, object_only=True, is_bounded=self._is_bounded
                )
            except GrammarError as error:
                raise GrammarError(f"tool {tool.name!r}: {error.reason}", error.path) from error
        if not tool_calls.tools:
            raise GrammarError("no tools to call")
        form, trigger = tool_calls.form, tool_calls.trigger
        self._call_rules("call", form.before, tool_calls)
        more = f"({self._literal(form.separator)} call){{0,{MAX_CALLS - 1}}}" if tool_calls.parallel else ""
        opening, first = self._literal(form.opening), "call"
        if trigger and form.opening:
            opening = f"{self._up_to(trigger)} {self._literal(form.opening.removeprefix(trigger))}"
        elif trigger:
            opening, first = self._up_to(trigger), "first"
            self._call_rules("first", form.before.removeprefix(trigger), tool_calls)
        return f"{opening} {first} {more} {self._literal(form.closing)}"

    def _call_rules(self, rule: str, before: str, tool_calls: ToolCalls) -> None:
        options = []
        for i, tool in enumerate(tool_calls.tools):
            name = json.dumps(json.dumps(tool.name, ensure_ascii=False)[1:-1], ensure_ascii=False)
            parts = [self._literal(part) for part in (before, *tool_calls.form.between.split("NAME"))]
            options.append(f"{f' {name} '.join(parts)} @schema{i} {self._literal(tool_calls.form.after)}")
        self._rules.append(f"{rule}: " + " | ".join(options))

    def _literal(self, text: str) -> str:
        """Return terms for exactly this text, with control tokens where their names are."""
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
