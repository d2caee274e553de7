"""The messages of training conversations, annotated with where each answer comes from."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from models.llm.chat.messages import Role
from server.rag.prompts import NO_ANSWER

GREETING = "I answer from the indexed documents. Ask me about something they contain."
QUESTION_PREFIX = "Question: "

_ANSWER_KINDS = {
    "refusal": re.compile(re.escape(NO_ANSWER)),
    "greeting": re.compile(re.escape(GREETING)),
    "list": re.compile("- "),
    "yes": re.compile(r"Yes\. "),
    "no": re.compile(r"No\. "),
    "sources": re.compile(r"\[\d+\](?:(?:, | and )\[\d+\])*$"),
    "number": re.compile(r"\d[\d.,]*(?: [a-z]+)?\. "),
}


class Source(NamedTuple):
    label: str
    text: str
    path: str


class SourceSentence(NamedTuple):
    """The span of a sentence of a source in its message; `number`: the position of the source's number."""

    start: int
    end: int
    number: int


class Quote(NamedTuple):
    """A copied span: `text[start:end]` of an answer stands at `source` in message number `message`.

    `last` is the position of the last character of the quoted sentence.
    """

    start: int
    end: int
    message: int
    source: int
    last: int


class Message(NamedTuple):
    """A message and its annotations. All positions count from the beginning of `text`.

    `lead` is written in front of `text`: the question with its prefix, which comes again after the sources.
    """

    role: Role
    text: str
    sentences: Sequence[SourceSentence] = ()
    question: tuple[int, int] = (0, 0)
    quotes: Sequence[Quote] = ()
    is_refusal: bool = False
    lead: str = ""


class QuotableSentence(NamedTuple):
    """A sentence of a source that an answer may quote. `message` and `number` are those of its source."""

    message: int
    span: SourceSentence
    text: str
    stems: set[str]
    number: int


class AnswerBuilder:
    """Builds an answer piece by piece and records which spans of it are copied."""

    def __init__(self) -> None:
        self.text, self.quotes = "", list[Quote]()

    def append(self, text: str) -> "AnswerBuilder":
        self.text += text
        return self

    def quote(self, sentence: QuotableSentence, start: int = 0, end: int | None = None) -> "AnswerBuilder":
        text = sentence.text[start:end]
        at, last = sentence.span.start + start, sentence.span.end - 1
        self.quotes.append(Quote(len(self.text), len(self.text) + len(text), sentence.message, at, last))
        return self.append(text)

    def cite(self, sentence: QuotableSentence, separator: str = " ") -> "AnswerBuilder":
        """Append the number of the sentence's source in brackets; the number counts as copied from the source."""
        self.append(f"{separator}[")
        start, number = len(self.text), str(sentence.number)
        last = sentence.span.end - 1
        self.quotes.append(Quote(start, start + len(number), sentence.message, sentence.span.number, last))
        return self.append(f"{number}]")


def answer_kind(answer: str) -> str:
    """Return the kind of an answer by its form; "quote" for a sentence with its citation."""
    return next((name for name, pattern in _ANSWER_KINDS.items() if pattern.match(answer)), "quote")
