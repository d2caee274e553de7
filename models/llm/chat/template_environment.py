"""The environment of chat templates: a sandbox that hides Python, and a budget of time and memory.

A template is a stranger's program in a model's file. jinja2's sandbox keeps it from objects it must not touch, but not
from nested loops or from doubling a text until the memory is full. So each statement that runs and each value that is
made is charged to a budget, and operations that make much at once are charged before they run. A list or a dict is
charged with all that is in it, so that whatever is made of it later (text, JSON, a comparison) has been paid for.
"""

import functools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE_CHARS = 512 * 1024
_MAX_S = 2.0  # processor time of a conversation, all its renderings together
_MIN_UNITS = 2_000_000  # a unit is a statement, a character or an item
_UNITS_PER_CHAR = 256  # of the conversation: templates copy it
_CLOCK_INTERVAL = 50  # charges between looks at the clock, which cost more than most charges
_BATCH_UNITS = 10_000  # units that are charged together
_MAX_INDENT = 16  # spaces, of JSON
_MAX_WIDTH = 256  # characters to which a text is padded or indented
_MAX_NUMBER = 2**64

_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:\d{4}|\*)")
_WIDE_FORMAT = re.compile(r"\{[^{}]*(?:\d{4}|\{)")
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_REMOVED_FILTERS = ("batch", "center", "format", "pprint", "random", "slice", "urlize", "wordwrap", "xmlattr")


class TemplateBudgetExceeded(jinja2.TemplateError):
    """A template took more time or memory than a conversation can need."""


class _Budget(threading.local):
    """The budget of the conversation that a thread renders. Once it is spent, every charge raises."""

    units = 0
    ends_at = 0.0  # seconds of the thread's processor clock
    num_until_clock = 0  # charges until the next look at the clock

    def charge(self, units: int) -> None:
        self.units -= units
        if self.units < 0:
            raise TemplateBudgetExceeded("the chat template makes too much text or too many values of the conversation")
        self.num_until_clock -= 1 + units // _BATCH_UNITS
        if self.num_until_clock > 0:
            return
        self.num_until_clock = _CLOCK_INTERVAL
        if time.thread_time() > self.ends_at:
            raise TemplateBudgetExceeded(f"the chat template took more than {_MAX_S:g} s")


class _MeteredCodeGenerator(jinja2.compiler.CodeGenerator):
    """Compiles templates so that they charge each statement, and values made without a call of the environment."""

    def blockvisit(self, nodes: Iterable[jinja2.nodes.Node], frame: jinja2.compiler.Frame) -> None:
        self.writeline("pass")
        for node in nodes:
            self.writeline("environment.charge(1)")
            super().blockvisit([node], frame)

    def return_buffer_contents(self, frame: jinja2.compiler.Frame, force_unescaped: bool = False) -> None:
        self.writeline(f"return environment.concat({frame.buffer})")

    def visit_Concat(self, node: jinja2.nodes.Concat, frame: jinja2.compiler.Frame) -> None:
        self.write("environment.charge_value(")
        super().visit_Concat(node, frame)
        self.write(")")

    def visit_Getitem(self, node: jinja2.nodes.Getitem, frame: jinja2.compiler.Frame) -> None:
        self.write("environment.charge_part(")
        super().visit_Getitem(node, frame)
        self.write(")")

    def visit_List(self, node: jinja2.nodes.List, frame: jinja2.compiler.Frame) -> None:
        self.write("environment.charge_value(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: jinja2.nodes.Dict, frame: jinja2.compiler.Frame) -> None:
        self.write("environment.charge_value(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: jinja2.nodes.Tuple, frame: jinja2.compiler.Frame) -> None:
        if node.ctx != "load":  # targets of an assignment
            super().visit_Tuple(node, frame)
            return
        self.write("environment.charge_value(")
        super().visit_Tuple(node, frame)
        self.write(")")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with a budget. Templates may append to and pop from lists that they made, while these are small."""

    code_generator_class = _MeteredCodeGenerator
    intercepted_binops = frozenset({"+", "*", "%", "**"})
    _LIST_METHODS: ClassVar = {"append", "pop"}
    _MAX_LENGTH: ClassVar = 10_000  # or a loop over a list that it appends to would never end

    def __init__(self) -> None:
        self._budget = _Budget()
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # or constants are computed and charged at compile time
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        self.concat = self._concat  # type: ignore[method-assign]
        self.globals.pop("lipsum")
        for name in _REMOVED_FILTERS:
            self.filters.pop(name)
        self.filters.update(tojson=self.to_json, from_json=json.loads, fromjson=json.loads)
        self.filters.update({name: self._with_charges(name, each) for name, each in self.filters.items()})

    def grant_budget(self, size: int) -> None:
        """Give this thread a budget for a conversation of `size` characters. Without one it cannot render."""
        self._budget.units = _MIN_UNITS + _UNITS_PER_CHAR * size
        self._budget.ends_at = time.thread_time() + _MAX_S

    # Called by the generated code

    def charge(self, units: int) -> None:
        self._budget.charge(units)

    def charge_value(self, value: Any) -> Any:
        """Charge a new value with all that is in it, and return it."""
        pending, units = [value], 0
        while pending:
            each = pending.pop()
            if isinstance(each, dict):
                pending += each.keys()
                pending += each.values()
            elif isinstance(each, (list, tuple)):
                pending += each
            if isinstance(each, (str, list, tuple, dict)):
                units += len(each)
            if units > _BATCH_UNITS:
                self.charge(units)
                units = 0
        self.charge(units)
        return value

    def charge_part(self, value: Any) -> Any:
        """Charge an item or a slice of a value, which of a text or a list is a copy, and return it."""
        if isinstance(value, (str, list, tuple)):
            self.charge(len(value))
        return value

    def _concat(self, pieces: Iterable[str]) -> str:
        charged = []
        for piece in pieces:
            self.charge(len(piece))
            charged.append(piece)
        return "".join(charged)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        match operator:
            case "**" if not (_is_small(left) and isinstance(right, (int, float)) and abs(right) <= 64):
                raise TemplateBudgetExceeded("the chat template computes with too large numbers")
            case "*" if isinstance(left, int) and isinstance(right, int):
                if not (_is_small(left) and _is_small(right)):
                    raise TemplateBudgetExceeded("the chat template computes with too large numbers")
            case "*" | "+":
                self._charge_sequences(operator, left, right)
            case "%" if isinstance(left, str):
                self._refuse_wide(_WIDE_PERCENT, left)
                return self.charge_value(super().call_binop(context, operator, left, right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        text = getattr(__obj, "__self__", None)
        if isinstance(text, str):
            __self._charge_method(__obj.__name__, text, args)
        elif isinstance(text, list):  # a method that appends
            __self.charge_value(args)
        return __self.charge_value(super().call(__context, __obj, *args, **kwargs))

    def to_json(
        self,
        value: object,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Return JSON as transformers' `tojson` writes it, on whose output models have been trained."""
        if (indent if isinstance(indent, int) else len(indent or "")) > _MAX_INDENT:
            raise TemplateBudgetExceeded("the chat template indents JSON too far")
        self.charge_value(value)
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
            default=_list_of_iterator,
        )

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            self._refuse_wide(_WIDE_FORMAT, value.__self__)
        return wrapped

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if type(obj) is list and attr in self._LIST_METHODS:
            return len(obj) < self._MAX_LENGTH
        return super().is_safe_attribute(obj, attr, value)

    # Charged before they run

    def _charge_sequences(self, operator: str, left: Any, right: Any) -> None:
        before = self._budget.units
        self.charge_value((left, right))
        if operator == "*":
            times = max((each for each in (left, right) if isinstance(each, int)), default=1)
            self.charge((before - self._budget.units) * max(times, 0))

    def _charge_method(self, name: str, text: str, args: tuple[Any, ...]) -> None:
        self.charge(len(text))
        if name == "replace" and len(args) > 1:
            self._charge_replacing(text, *args[:2])
        elif name == "join" and args:
            self._charge_joining(text, args[0])
        elif name in _PADDING and any(isinstance(each, int) and each > _MAX_WIDTH for each in args):
            raise TemplateBudgetExceeded("the chat template pads a text too far")

    def _charge_replacing(self, text: str, old: Any, new: Any) -> None:
        count = text.count(old) if isinstance(old, str) and old else len(text) + 1
        self.charge(count * len(str(new)))

    def _charge_joining(self, separator: str, parts: Any) -> None:
        if isinstance(parts, (list, tuple)):
            self.charge(sum(len(str(part)) + len(separator) for part in parts))
        elif isinstance(parts, str):
            self.charge(len(parts) * (len(separator) + 1))
        else:
            raise TemplateBudgetExceeded("the chat template joins what has no length; use the filter list before")

    def _refuse_wide(self, pattern: re.Pattern[str], text: str) -> None:
        if pattern.search(text):
            raise TemplateBudgetExceeded("the chat template formats too wide")

    def _with_charges(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return the filter with charges. Its first argument after those that jinja2 passes is the value to filter."""
        first = 1 if hasattr(original, "jinja_pass_arg") else 0

        @functools.wraps(original)  # keeps the marks of arguments that jinja2 passes
        def filter_with_charges(*args: Any, **kwargs: Any) -> Any:
            arguments = list(args)
            if name == "join" and not isinstance(arguments[first], str):
                arguments[first] = list(arguments[first])
                self._charge_joining(str(_argument(arguments[first + 1 :], kwargs, "d", "")), arguments[first])
            elif name == "replace":
                rest = arguments[first + 1 :]
                old, new = _argument(rest, kwargs, "old", ""), _argument(rest[1:], kwargs, "new", "")
                self._charge_replacing(str(arguments[first]), str(old), new)
            elif name == "indent":
                width = _argument(arguments[first + 1 :], kwargs, "width", 4)
                width = width if isinstance(width, int) else len(str(width))
                self.charge((str(arguments[first]).count("\n") + 1) * max(width, 0))
            return self.charge_value(original(*arguments, **kwargs))

        return filter_with_charges


class _GenerationTag(jinja2.ext.Extension):
    """Renders the body of `{% generation %}…{% endgeneration %}`, which marks the model's own text for training."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _list_of_iterator(value: object) -> list[object]:
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _is_small(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < _MAX_NUMBER


def _argument(rest: list[Any], named: dict[str, Any], name: str, default: Any) -> Any:
    return rest[0] if rest else named.get(name, default)
