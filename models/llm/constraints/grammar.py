r"""Answers in a given form: JSON of a schema, a regular expression, tool calls. Constrained decoding by llguidance.

What a schema may say is in `json_schema.py`. What cannot be enforced raises `GrammarError` and is never ignored.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper, regex_to_lark
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from models.errors import GrammarError
from models.llm.constraints.forms import ConstraintForm, JsonObject, JsonSchema, PrefixedForm, Regex, ToolCalls
from models.llm.constraints.json_schema import LIMITS, Budget, Schema, check_regex, compile_error, encode
from models.llm.constraints.trigger import Trigger

_MAX_FORCED = 1024  # bytes tokenized ahead
_MAX_TOKEN = 64  # bytes; only the last tokens of what was cut off ahead could be others without the cut
MAX_CALLS = 16  # in one answer: small models know no end
_LOCATING = 0.2  # seconds spent on finding which part of a refused schema is to blame


def check(constraint: ConstraintForm) -> None:
    """Raises `GrammarError` for all that is wrong with it whatever the vocabulary: for the edge, before it queues."""
    source = _Source(constraint, {})
    if error := compile_error(source.text):
        raise source.explain(error)


class _Source:
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


class Vocabulary(Protocol):
    """What is needed of `models.llm.llama.vocabulary.Vocabulary`."""

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
        self.pieces = pieces.tokens
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

    def __init__(self, tokenizer: GrammarTokenizer, constraint: ConstraintForm) -> None:
        """Raises `GrammarError`: not supported, not valid, too large, or nothing satisfies it."""
        source = _Source(constraint, tokenizer.control)
        self._matcher = LLMatcher(tokenizer.llguidance, source.text, log_level=0, limits=LIMITS)
        self._tokenizer = tokenizer
        self._usable = tokenizer.usable(source.control_tokens)
        self._mask = allocate_token_bitmask(1, tokenizer.size)
        self._consumed: list[int] = []
        self._unfit: list[int] | None = None  # with which no call begins although the trigger is there
        self._trigger: Trigger | None = None
        if self._matcher.is_error():
            raise source.explain(self._matcher.get_error())
        self.after([])
        prefixed = constraint if isinstance(constraint, PrefixedForm) else PrefixedForm(JsonObject())
        if isinstance(prefixed.answer, ToolCalls) and prefixed.answer.trigger:
            self._trigger = Trigger(
                tokenizer.pieces, prefixed.answer.trigger, prefixed.reasoning, prefixed.is_reasoning
            )

    def after(self, generated: list[int]) -> NDArray[np.intp] | None:
        """The tokens that may follow; the end tokens once the answer is complete. Never empty; None: any.

        Raises `GrammarError` when going on takes more than the limits, or `generated` is not what it allowed.
        """
        if generated and generated[-1] in self._tokenizer.end_tokens:
            return self._tokenizer.end_tokens
        if not self._has_begun(generated):
            return None
        if self._matcher.is_stopped():
            return self._tokenizer.end_tokens
        fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8)[0], count=self._tokenizer.size, bitorder="little")
        allowed = (bits.view(np.bool_) & self._usable).nonzero()[0]
        if not allowed.size:
            raise GrammarError("nothing can follow")
        return allowed

    def forced(self, generated: list[int], limit: int) -> list[int] | None:
        """The next tokens, at most `limit`, as far as there is only one way to go on; None: any may come.

        Raises as `after`.
        """
        if limit <= 0 or (generated and generated[-1] in self._tokenizer.end_tokens):
            return []
        if not self._has_begun(generated):
            return None
        if self._matcher.is_stopped():
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return tokens[:limit]

    def _has_begun(self, generated: list[int]) -> bool:
        """Brings the matcher to where these tokens lead; not, if the trigger is not among them."""
        if self._trigger is None:
            self._follow(generated)
            return True
        span = self._trigger.span(generated)
        if span is None or generated[: span[1]] == self._unfit:
            return False
        opening = generated[slice(*span)]
        if self._consumed[: len(opening)] != opening:
            try:
                self._follow(opening)
            except GrammarError:  # the token that completes the trigger brought text that no call goes on with
                self._unfit = generated[: span[1]]
                return False
        self._follow(generated[span[0] :])
        return True

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
