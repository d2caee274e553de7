r"""Answers in a given form: JSON of a schema, a regular expression, tool calls. Constrained decoding by llguidance.

What a schema may say is in `json_schema.py`. What cannot be enforced raises `GrammarError` and is never ignored.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper, regex_to_lark
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from models.errors import GrammarError
from models.llm.json_schema import LIMITS, Budget, Schema, check_regex, compile_error, encode

_MAX_FORCED = 1024  # bytes tokenized ahead
_MAX_TOKEN = 64  # bytes; only the last tokens of what was cut off ahead could be others without the cut
_LOCATING = 0.2  # seconds spent on finding which part of a refused schema is to blame


class JsonSchema(msgspec.Struct, tag=True, frozen=True):
    schema: str  # JSON


class JsonObject(msgspec.Struct, tag=True, frozen=True):
    pass


class Regex(msgspec.Struct, tag=True, frozen=True):
    r"""The whole answer matches `pattern`: syntax of Rust's regex crate, `\d` and `\w` of ASCII as in JSON Schema."""

    pattern: str


class Tool(msgspec.Struct, frozen=True):
    name: str
    parameters: str = "{}"  # JSON Schema of the arguments, which are always an object


class ToolForm(msgspec.Struct, frozen=True):
    """How a model writes calls: `opening`, calls with `separator` between them, `closing`. Here as Hermes and Qwen do.

    A call is `before`, the tool's name escaped as in a JSON string, `between`, the arguments, `after`. Names of the
    vocabulary's control tokens stand for those tokens: these texts are the server's, never a request's.
    """

    opening: str = ""
    before: str = '<tool_call>\n{"name": "'
    between: str = '", "arguments": '
    after: str = "}\n</tool_call>"
    separator: str = "\n"
    closing: str = ""


class ToolCalls(msgspec.Struct, tag=True, frozen=True):
    """One call of one of these tools, or with `parallel` one or several."""

    tools: tuple[Tool, ...]
    form: ToolForm = ToolForm()
    parallel: bool = False


Constraint = JsonSchema | JsonObject | Regex | ToolCalls


def check(constraint: Constraint) -> None:
    """Raises `GrammarError` for all that is wrong with it whatever the vocabulary: for the edge, before it queues."""
    source = _Source(constraint, {})
    if error := compile_error(source.text):
        raise source.explain(error)


class _Source:
    """A constraint in llguidance's own terms. `control`: the names of the vocabulary's control tokens."""

    def __init__(self, constraint: Constraint, control: Mapping[str, int]) -> None:
        self._control = control
        self._schemas: dict[str, Schema] = {}  # by name of the tool
        self.control_tokens: set[int] = set()  # those it asks for
        match constraint:
            case JsonSchema(text):
                self.text = self._json(text)
            case JsonObject():
                self.text = self._json('{"type": "object"}')
            case Regex(pattern):
                Budget().take_text(pattern, "")
                check_regex(pattern, "")
                self.text = LLMatcher.grammar_from_regex(regex_to_lark(pattern, "dw"))
            case ToolCalls(tools, form, parallel):
                self.text = self._calls(tools, form, parallel)

    def explain(self, message: str) -> GrammarError:
        """The error for what the compiler said."""
        reason = re.search(r"error: (.+)", message) or re.match(r"(.*?)(\. |\n|$)", message)
        text = reason[1][:200] if reason else message
        deadline = time.monotonic() + _LOCATING
        for name, schema in self._schemas.items():
            if path := schema.locate(deadline):
                return GrammarError(f"tool {name!r}: {text}" if name else text, path)
        return GrammarError(text)

    def _json(self, text: str) -> str:
        schema = self._schemas[""] = Schema(text, Budget())
        return encode({"grammars": [{"json_schema": schema.document()}]})

    def _calls(self, tools: tuple[Tool, ...], form: ToolForm, parallel: bool) -> str:
        budget = Budget()
        for tool in tools:
            if not tool.name or tool.name in self._schemas:
                raise GrammarError(f"tool {tool.name!r}: a name of its own is expected")
            budget.take_text(tool.name, "")
            try:
                self._schemas[tool.name] = Schema(tool.parameters, budget, object_only=True)
            except GrammarError as error:
                raise GrammarError(f"tool {tool.name!r}: {error.reason}", error.path) from error
        if not tools:
            raise GrammarError("no tools to call")
        more = f"({self._literal(form.separator)} call)*" if parallel else ""
        rules = [
            f"start: {self._literal(form.opening)} call {more} {self._literal(form.closing)}",
            "call: " + " | ".join(f"call{i}" for i in range(len(tools))),
        ]
        for i, tool in enumerate(tools):
            name = json.dumps(json.dumps(tool.name, ensure_ascii=False)[1:-1], ensure_ascii=False)
            head = f"{self._literal(form.before)} {name} {self._literal(form.between)}"
            rules.append(f"call{i}: {head} @arguments{i} {self._literal(form.after)}")
        grammars: list[dict[str, Any]] = [{"lark_grammar": "\n".join(rules)}]
        for i, schema in enumerate(self._schemas.values()):
            grammars.append({"name": f"arguments{i}", "json_schema": schema.document()})
        return encode({"grammars": grammars})

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
    """What is needed of `models.llm.llama.Vocabulary`."""

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

    def __init__(self, tokenizer: GrammarTokenizer, constraint: Constraint) -> None:
        """Raises `GrammarError`: not supported, not valid, too large, or nothing satisfies it."""
        source = _Source(constraint, tokenizer.control)
        self._matcher = LLMatcher(tokenizer.llguidance, source.text, log_level=0, limits=LIMITS)
        self._tokenizer = tokenizer
        self._usable = tokenizer.usable(source.control_tokens)
        self._mask = allocate_token_bitmask(1, tokenizer.size)
        self._consumed: list[int] = []
        if self._matcher.is_error():
            raise source.explain(self._matcher.get_error())
        self.after([])

    def after(self, generated: list[int]) -> NDArray[np.intp]:
        """The tokens that may follow; the end tokens once the answer is complete. Never empty.

        Raises `GrammarError` when going on takes more than the limits, or `generated` is not what it allowed.
        """
        if generated and generated[-1] in self._tokenizer.end_tokens:
            return self._tokenizer.end_tokens
        self._follow(generated)
        if self._matcher.is_stopped():
            return self._tokenizer.end_tokens
        fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8)[0], count=self._tokenizer.size, bitorder="little")
        allowed = (bits.view(np.bool_) & self._usable).nonzero()[0]
        if not allowed.size:
            raise GrammarError("nothing can follow")
        return allowed

    def forced(self, generated: list[int], limit: int) -> list[int]:
        """The next tokens, at most `limit`, as far as there is only one way to go on. Raises as `after`."""
        if limit <= 0 or (generated and generated[-1] in self._tokenizer.end_tokens):
            return []
        self._follow(generated)
        if self._matcher.is_stopped():
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return tokens[:limit]

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
