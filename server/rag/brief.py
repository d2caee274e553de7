"""Passages begun at the sentence that is most like the question, for small models and slow machines."""

import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import numpy as np

from index.types import Vectors

# After a full stop, question or exclamation mark (and a closing quote or bracket) before a new beginning; at line ends.
_BOUNDARY = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9`*À-ÞА-Я])|\n+")
_MIN_SENTENCE = 12  # characters; less than that is a list number or an abbreviation


def sentence_starts(text: str) -> list[int]:
    """Offsets of the sentences of a text, in order; 0 is always one."""
    starts = [0]
    for boundary in _BOUNDARY.finditer(text):
        if boundary.end() - starts[-1] >= _MIN_SENTENCE and text[boundary.end() :].strip():
            starts.append(boundary.end())
    return starts


def sentences(text: str) -> list[str]:
    """Without the space around them; joined they are the text but for that."""
    return [sentence for start, end in _spans(text) if (sentence := text[start:end].strip())]


def _spans(text: str) -> list[tuple[int, int]]:
    return list(pairwise([*sentence_starts(text), len(text)]))


def cut(text: str, start: int, limit: int) -> str:
    """From `start`, at most `limit` characters, at a sentence's end if one lies within, else at a word's."""
    rest = text[start:].strip()
    if len(rest) <= limit:
        return rest
    ends = [at for at in sentence_starts(rest) if 0 < at <= limit]
    return rest[: ends[-1] if ends else rest.rfind(" ", 0, limit) + 1 or limit].rstrip()


async def briefs(
    question: str, texts: Sequence[str], limit: int, embed: Callable[[Sequence[str]], Awaitable[Vectors]]
) -> list[tuple[str, float]]:
    """For each text, its brief, begun at its best sentence, and how like the question that sentence is (cosine).

    `embed` gives unit vectors; it is called once, with the question first.
    """
    bounds = [(i, start, end) for i, text in enumerate(texts) for start, end in _spans(text)]
    vectors = await embed([question, *(texts[i][start:end] for i, start, end in bounds)])
    likeness: np.ndarray = vectors[1:] @ vectors[0]
    best: dict[int, tuple[float, int]] = {}
    for (i, start, _), score in zip(bounds, likeness.tolist(), strict=True):
        if i not in best or score > best[i][0]:
            best[i] = score, start
    return [(cut(text, best[i][1], limit), best[i][0]) for i, text in enumerate(texts)]
