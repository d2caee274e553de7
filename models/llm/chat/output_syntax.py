"""How the model behind a chat template writes calls and reasoning."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from models.llm.chat.prompt import Segment
from models.llm.tool_syntax.calls import ForcedCall
from models.llm.tool_syntax.detection import detect_family, detect_reasoning_markers
from models.llm.tool_syntax.family import ReasoningMarkers, SyntaxFamily
from models.llm.tool_syntax.python_calls import write_python

_TOKEN_NAME = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]|｜DSML｜|\]<\]minimax\[>\[")


@dataclass(frozen=True)
class OutputSyntax:
    """How the model behind a chat template writes calls and reasoning."""

    family: SyntaxFamily
    reasoning: ReasoningMarkers | None

    @classmethod
    def of(cls, template_source: str) -> Self:
        """Detect the syntax by the source of a chat template."""
        family = detect_family(template_source)
        return cls(family, detect_reasoning_markers(template_source, family))

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def is_native(self) -> bool:
        """True if the template knows tools. If not, calls are looked for as plain JSON."""
        return self.family.is_native

    @cached_property
    def control_markers(self) -> frozenset[str]:
        """The names of tokens that the parser needs as text. Some are not tokens in every vocabulary."""
        markers = [marker for form in self.family.formats for marker in form.markers]
        markers += [*self.family.skipped, *map(str, self.family.forced)]
        if self.reasoning:
            markers += [self.reasoning.begin, self.reasoning.end]
        return frozenset(name for marker in markers for name in _TOKEN_NAME.findall(marker))

    def starts_in_reasoning(self, prompt_end: str) -> bool:
        """Return whether a prompt that ends like this makes the model begin within reasoning."""
        return self.reasoning is not None and prompt_end.rstrip().endswith(self.reasoning.begin.rstrip())

    @cached_property
    def trigger(self) -> str:
        """The text that begins a call, "" where the model's own calls may differ from the forced form."""
        return self.family.trigger

    def forced_call(self, name: str) -> ForcedCall:
        """Return the form that constrained decoding forces on a call of this tool."""
        return self.family.forced.with_name(name)

    def write_calls(self, calls: Sequence[tuple[str, str]]) -> list[Segment]:
        """Return calls, given by name and arguments, as the model itself would have written them."""
        form = self.family.forced
        parts = [Segment(form.opening, is_content=False)]
        for at, (name, arguments) in enumerate(calls):
            if at:
                parts.append(Segment(form.separator or "\n", is_content=False))
            if self.family.is_pythonic:
                parts.append(Segment(write_python(name, arguments), is_content=True))
                continue
            before, *after = form.begin.split("NAME")
            parts.append(Segment(before, is_content=False))
            for scaffold in after:
                parts += [Segment(name, is_content=True), Segment(scaffold, is_content=False)]
            parts += [Segment(arguments, is_content=True), Segment(form.end, is_content=False)]
        return [*parts, Segment(form.closing, is_content=False)]
