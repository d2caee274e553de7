"""A constraint in llguidance's own terms: rules of its Lark dialect and JSON Schemas."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher, regex_to_lark

from models.errors import GrammarError
from models.llm.constraints.forms import ConstraintForm, JsonObject, JsonSchema, PrefixedForm, Regex, ToolCalls
from models.llm.constraints.json_schema import Budget, Schema, compile_error, encode
from models.llm.constraints.limits import MAX_CALLS
from models.llm.constraints.regex import check_regex

_LOCATING = 0.2  # seconds spent on finding which part of a refused schema is to blame


def check(constraint: ConstraintForm) -> None:
    """Raises `GrammarError` for all that is wrong with it whatever the vocabulary: for the edge, before it queues."""
    source = GrammarSource(constraint, {})
    if error := compile_error(source.text):
        raise source.explain(error)


class GrammarSource:
    """A constraint in llguidance's own terms. `control`: the names of the vocabulary's control tokens."""

    def __init__(self, constraint: ConstraintForm, control: Mapping[str, int]) -> None:
        self._control = control
        self._schemas: dict[str, Schema] = {}  # by name of the tool, "" for the answer itself
        self._rules: list[str] = []
        self._budget = Budget()
        self.control_tokens: set[int] = set()  # those it asks for
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
        """The error for what the compiler said."""
        reason = re.search(r"error: (.+)", message) or re.match(r"(.*?)(\. |\n|$)", message)
        text = reason[1][:200] if reason else message
        deadline = time.monotonic() + _LOCATING
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
        thought = f"{self._up_to(end)} {self._literal(prefixed.after_reasoning)} GAP"
        self._rules.append(r"GAP: /[ \n]{0,4}/")
        thought = thought if prefixed.is_reasoning else f"({self._literal(begin)} {thought})?"
        return f"{thought} ({answer})"

    def _up_to(self, end: str) -> str:
        """Any text that ends with this, which begins with the name of a control token or has none in it."""
        self._rules.append(r"ANYTHING: /(.|\n)*/")
        literal = self._literal(end)
        if literal.startswith("<"):
            return f"ANYTHING {literal}"
        self._rules.append(f"up_to[lazy]: ANYTHING {literal}")
        return "up_to"

    def _json(self, text: str) -> str:
        self._schemas[""] = Schema(text, self._budget, is_bounded=self._is_bounded)
        return f"@schema{len(self._schemas) - 1}"

    def _calls(self, asked: ToolCalls) -> str:
        for tool in asked.tools:
            if not tool.name or tool.name in self._schemas:
                raise GrammarError(f"tool {tool.name!r}: a name of its own is expected")
            self._budget.take_text(tool.name, "")
            try:
                self._schemas[tool.name] = Schema(
                    tool.parameters, self._budget, object_only=True, is_bounded=self._is_bounded
                )
            except GrammarError as error:
                raise GrammarError(f"tool {tool.name!r}: {error.reason}", error.path) from error
        if not asked.tools:
            raise GrammarError("no tools to call")
        form = asked.form
        self._call_rules("call", form.before, asked)
        more = f"({self._literal(form.separator)} call){{0,{MAX_CALLS - 1}}}" if asked.parallel else ""
        opening, first = self._literal(form.opening), "call"
        if asked.trigger and form.opening:
            opening = f"{self._up_to(asked.trigger)} {self._literal(form.opening.removeprefix(asked.trigger))}"
        elif asked.trigger:
            opening, first = self._up_to(asked.trigger), "first"
            self._call_rules("first", form.before.removeprefix(asked.trigger), asked)
        return f"{opening} {first} {more} {self._literal(form.closing)}"

    def _call_rules(self, rule: str, before: str, asked: ToolCalls) -> None:
        options = []
        for i, tool in enumerate(asked.tools):
            name = json.dumps(json.dumps(tool.name, ensure_ascii=False)[1:-1], ensure_ascii=False)
            parts = [self._literal(part) for part in (before, *asked.form.between.split("NAME"))]
            options.append(f"{f' {name} '.join(parts)} @schema{i} {self._literal(asked.form.after)}")
        self._rules.append(f"{rule}: " + " | ".join(options))

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
