"""Splits passages into sentences, and cuts them where a sentence ends."""

import re
from itertools import pairwise
from pathlib import PurePosixPath

from index.reading.lines import unwrap
from index.types import Passage

# After a full stop, question or exclamation mark (and a closing quote or bracket) before a new beginning; at line ends.
_BOUNDARY = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9`*À-ÞА-Я])|\n+")
_MIN_SENTENCE = 12  # characters; less than that is a list number or an abbreviation
_WORD = re.compile(r"[^\W\d_]{2}")
_WORDS = re.compile(r"\w{2,}")
_PROSE = {".md", ".markdown", ".mdown", ".txt", ".text", ".rst", ".eml", ".mbox"}


def passage_text(passage: Passage) -> str:
    """Return a passage's text as a model reads it: prose without the line breaks that an editor put in."""
    is_prose = PurePosixPath(passage.path).suffix.lower() in _PROSE and "```" not in passage.text
    return unwrap(passage.text_with_lead).text if is_prose else passage.text_with_lead


def is_table_row(text: str, at: int) -> bool:
    """Return whether the offset lies in a row of a Markdown table."""
    return text.startswith("|", text.rfind("\n", 0, at) + 1)


def sentence_starts(text: str) -> list[int]:
    """Return the offsets of the sentences of a text, in order; 0 is always one. A row of a table is one sentence."""
    starts = [0]
    for boundary in _BOUNDARY.finditer(text):
        if "\n" not in boundary[0] and is_table_row(text, boundary.start()):
            continue
        if boundary.end() - starts[-1] >= _MIN_SENTENCE and text[boundary.end() :].strip():
            starts.append(boundary.end())
    return starts


def sentences(text: str) -> list[str]:
    """Return the sentences of a text that have a word, without the space around them."""
    return [text[start:end].strip() for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the ranges of the sentences that have a word: a table's rule or a code fence is none."""
    bounds = pairwise([*sentence_starts(text), len(text)])
    return [(start, end) for start, end in bounds if _WORD.search(text, start, end)]


def truncate(text: str, start: int, limit: int) -> str:
    """Return at most `limit` characters from `start` on, cut at the end of a sentence if one lies within, else of a
    word."""
    rest = text[start:].strip()
    if len(rest) <= limit:
        return rest
    ends = [at for at in sentence_starts(rest) if 0 < at <= limit]
    return rest[: ends[-1] if ends else rest.rfind(" ", 0, limit) + 1 or limit].rstrip()


def best_sentences(question: str, text: str, limit: int) -> str:
    """Return at most `limit` characters of a text, from the sentence on that has most of the question's words."""
    question_words = set(_WORDS.findall(question.lower()))
    text = unwrap(text).text

    def num_common(span: tuple[int, int]) -> int:
        return len(question_words & set(_WORDS.findall(text[slice(*span)].lower())))

    start, _ = max(sentence_spans(text), key=num_common, default=(0, 0))
    return truncate(text, start, limit)
