"""Which sentence of a source supports what an answer says: the one that has most of its words."""

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
_MIN_WORDS = 2  # of a claim; less than that says nothing to look for


def with_quotes(citations: Sequence[Citation], text: str, sources: Mapping[int, str]) -> list[Citation]:
    """Citations of a finished answer, each with the sentence of its source that supports the sentence it ends."""
    return [each._replace(quote=find_quote(claim(text, each), sources[each.number])) for each in citations]


def claim(text: str, citation: Citation) -> str:
    """What a marker stands for: its sentence, from the marker before on; what follows, where nothing came before."""
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


def find_quote(claimed: str, text: str) -> str | None:
    """The sentence of `text` that shares most words with what is claimed, rare words first; None: no word at all."""
    found = sentences(text)
    words = [_words(sentence) for sentence in found]
    common = Counter(word for each in words for word in each)
    wanted = _words(claimed)
    scores = [math.fsum(1 / common[word] for word in each & wanted) for each in words]  # in whatever order
    best = max(scores, default=0)
    return found[scores.index(best)] if best else None


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
