"""Quotes the sentence of a source that supports a claim of the answer: the one that shares most words with it."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from server.rag.citations import Citation
from server.rag.sentences import sentence_starts, sentences

_MARKERS = re.compile(r"(?:\s?\[[0-9]{1,3}\])+")
_BEHIND_SENTENCES = re.compile(rf"(?<=[.!?]){_MARKERS.pattern}")
# Scripts without spaces between words are compared by their characters.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
_MIN_WORDS = 2  # of a claim; a shorter one says nothing to look for


def with_quotes(citations: Sequence[Citation], text: str, sources: Mapping[int, str]) -> list[Citation]:
    """Return the citations of a complete answer, each with its quote. `sources` are texts, by number."""
    return [
        citation._replace(quote=find_quote(claim(text, citation), sources[citation.number])) for citation in citations
    ]


def claim(text: str, citation: Citation) -> str:
    """Return the claim that a marker supports: its sentence since the marker before, or the text behind the marker
    where nothing stands before it."""
    before = _MARKERS.sub("\0", _BEHIND_SENTENCES.sub("", text[: citation.start])).rstrip(" \t\0")
    start = before.rfind("\n") + 1
    sentence = before[start + sentence_starts(before[start:])[-1] :]
    last = sentence.rpartition("\0")[2]
    if len(_words(last)) >= _MIN_WORDS:
        return last
    if len(_words(sentence)) >= _MIN_WORDS:
        return sentence.replace("\0", " ")
    beside = _MARKERS.match(text, citation.end)
    after = _MARKERS.split(text[beside.end() if beside else citation.end :], maxsplit=1)[0]
    return " ".join([sentence.replace("\0", " "), *sentences(after)[:1]])


def find_quote(claim: str, text: str) -> str | None:
    """Return the sentence of `text` that shares most words with the claim; None if there is no common word.

    A word counts by how rare it is in the text.
    """
    candidates = sentences(text)
    words = [_words(sentence) for sentence in candidates]
    common = Counter(word for each in words for word in each)
    claimed_words = _words(claim)
    scores = [
        math.fsum(1 / common[word] for word in each & claimed_words) for each in words
    ]  # fsum: the order does not count
    best = max(scores, default=0)
    return candidates[scores.index(best)] if best else None


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
