"""A family of models that write calls and reasoning alike, as data."""

from dataclasses import dataclass
from typing import NamedTuple

from models.llm.tool_syntax.calls import CallFormat, ForcedCall
from models.llm.tool_syntax.json_calls import JsonCalls
from models.llm.tool_syntax.tagged_calls import TaggedCalls


class ReasoningMarkers(NamedTuple):
    begin: str
    end: str
    is_anywhere: bool = False  # else only before the answer, where quoted text cannot be taken for it


@dataclass(frozen=True)
class SyntaxFamily:
    """How the models write. Of `formats` that begin alike, the first that fits counts."""

    name: str
    formats: tuple[CallFormat, ...]
    forced: ForcedCall
    skipped: tuple[str, ...] = ()  # scaffold within the text of a turn
    lead: str = ""  # scaffold that may begin an answer because the prompt ends within it
    reasoning: ReasoningMarkers | None = None
    is_native: bool = True  # the template knows tools, so the model was trained on this form
    is_pythonic: bool = False  # earlier calls are written in Python too
    before_answer: str = ""  # scaffold in front of an answer of text
    after_reasoning: str = ""  # scaffold between reasoning and what follows it

    @property
    def trigger(self) -> str:
        """The beginning of a call if the model's own calls have the forced form, with JSON arguments; else ""."""
        form = self.formats[0]
        is_json = isinstance(form, JsonCalls) or (isinstance(form, TaggedCalls) and form.is_json)
        start = self.forced.opening + self.forced.begin
        return max((b for b in form.begins if is_json and start.startswith(b)), key=len, default="")
