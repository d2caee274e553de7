"""A family of models that write calls and reasoning alike."""

from dataclasses import dataclass
from typing import NamedTuple

from models.llm.tool_syntax.calls import CallFormat, ForcedCall
from models.llm.tool_syntax.json_calls import JsonCalls
from models.llm.tool_syntax.tagged_calls import TaggedCalls


class ReasoningMarkers(NamedTuple):
    begin: str
    end: str
    is_anywhere: bool = False  # else in front of the answer only, where no user's text can be taken for it


@dataclass(frozen=True)
class SyntaxFamily:
    """`formats` are tried in turn where several begin alike. `skipped` is scaffold in the model's own text."""

    name: str
    formats: tuple[CallFormat, ...]
    forced: ForcedCall
    skipped: tuple[str, ...] = ()
    lead: str = ""  # is scaffold at the start of an answer, where the prompt's own end belongs to it
    reasoning: ReasoningMarkers | None = None
    is_native: bool = True  # the template speaks of tools, and the model has seen this form
    is_pythonic: bool = False  # what was called before is written in Python, too
    before_answer: str = ""  # scaffold in front of an answer that is text
    after_reasoning: str = ""  # scaffold between reasoning and what follows it

    @property
    def trigger(self) -> str:
        """The beginning of a call, where the model's own calls are in the forced form: their arguments JSON."""
        form = self.formats[0]
        is_json = isinstance(form, JsonCalls) or (isinstance(form, TaggedCalls) and form.is_json)
        start = self.forced.opening + self.forced.begin
        return max((b for b in form.begins if is_json and start.startswith(b)), key=len, default="")
