"""The words a grounded prompt is made of: layout v1, which the built-in model is trained on.

A model made for it has the question in front of the sources as well: what is read with the question in mind need not be
searched when it comes (Liu et al., "Lost in the Middle", 2023, section 4.2: query-aware contextualization).

[1] handbook/leave.md › Parental leave
Employees may take up to 16 weeks …

Question: how long is parental leave?
"""

from collections.abc import Sequence

import msgspec

from index.types import Passage
from models.llm.chat.messages import ChatMessage

SYSTEM = (
    "Answer the question using only the sources. Cite each source you use as [n]. "
    "If they do not contain the answer, say so."
)
NO_ANSWER = "The sources do not answer this."
NOTHING_FOUND = "(No source was found for this question.)"
_TWINS = 3  # files that say the same and are named


class Source(msgspec.Struct, frozen=True):
    """A passage as the model sees it: under its number, with the text it was given of it."""

    number: int
    passage: Passage
    text: str

    @property
    def label(self) -> str:
        """Where it is from: path, page or the like, and headings; and which files say the same."""
        where = " › ".join((self.passage.file, *self.passage.breadcrumb))
        others = self.passage.also_in
        if not others:
            return where
        more = f" and {len(others) - _TWINS} more" if len(others) > _TWINS else ""
        return f"{where} (also in {', '.join(others[:_TWINS])}{more})"


def format_source(source: Source) -> str:
    """A source as it stands before the question."""
    return f"[{source.number}] {source.label}\n{source.text}"


def format_user_turn(
    question: str, sources: Sequence[Source], *, found_nothing: bool = False, question_first: bool = False
) -> str:
    """The sources in front of the question they belong to. Without any, the question is about what came before."""
    blocks = [format_source(source) for source in sources]
    asked = f"Question: {question}"
    if blocks and question_first:
        blocks.insert(0, asked)
    if not blocks and found_nothing:
        blocks = [NOTHING_FOUND]
    return "\n\n".join([*blocks, asked])


def with_system_message(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The instruction first; behind the client's own words, if it has any: who uses sources must know how to cite."""
    first = messages[0] if messages and messages[0].role == "system" else None
    if first is None:
        return [ChatMessage.of_text("system", SYSTEM), *messages]
    return [ChatMessage.of_text("system", f"{first.text}\n\n{SYSTEM}"), *messages[1:]]
