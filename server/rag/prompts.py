"""The words and the layout of a grounded prompt: layout v1, which the built-in model is trained on.

A model trained for it gets the question in front of the sources as well, so that it reads them with the question in
mind (Liu et al., "Lost in the Middle", 2023, section 4.2: query-aware contextualization).

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
_MAX_DUPLICATES = 3  # files with the same text that a label names


class Source(msgspec.Struct, frozen=True):
    """A passage as the model reads it: under its number, with the part of its text that the model is given."""

    number: int
    passage: Passage
    text: str

    @property
    def label(self) -> str:
        """The passage's file, page or the like, and headings; and the files with the same text."""
        where = " › ".join((self.passage.file, *self.passage.breadcrumb))
        others = self.passage.also_in
        if not others:
            return where
        more = f" and {len(others) - _MAX_DUPLICATES} more" if len(others) > _MAX_DUPLICATES else ""
        return f"{where} (also in {', '.join(others[:_MAX_DUPLICATES])}{more})"


def format_source(source: Source) -> str:
    """Return a source as it stands before the question."""
    return f"[{source.number}] {source.label}\n{source.text}"


def format_user_turn(
    question: str, sources: Sequence[Source], *, found_nothing: bool = False, question_first: bool = False
) -> str:
    """Return a user's turn: its sources in front of its question.

    Without sources the question is about the conversation, unless `found_nothing` says that nothing was found for it.
    """
    blocks = [format_source(source) for source in sources]
    question_block = f"Question: {question}"
    if blocks and question_first:
        blocks.insert(0, question_block)
    if not blocks and found_nothing:
        blocks = [NOTHING_FOUND]
    return "\n\n".join([*blocks, question_block])


def with_system_message(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the messages with the instruction to cite in the system message, behind the client's own words."""
    first = messages[0] if messages and messages[0].role == "system" else None
    if first is None:
        return [ChatMessage.of_text("system", SYSTEM), *messages]
    return [ChatMessage.of_text("system", f"{first.text}\n\n{SYSTEM}"), *messages[1:]]
