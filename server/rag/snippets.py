"""Passages begun at the sentence that answers best, for small models and slow machines."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import numpy as np

from index.lexical.analyzer import Analyzer
from index.types import Vectors
from server.rag.sentences import cut, is_row, spans

# How much the question's words in a sentence count beside its likeness (cosine). What it is worth, docs/benchmarks.md
# tells ("The sentence that is quoted").
WORDS = 0.8

Embed = Callable[[Sequence[str]], Awaitable[Vectors]]


class Snippet(NamedTuple):
    """Of a passage; "" where it has no sentence. `similarity`: of the sentence most like the question, a cosine.
    `answers`: how well the first sentence of the text seems to answer it, at most 1 + `WORDS`."""

    text: str
    similarity: float
    answers: float


class SnippetSelector:
    """Keeps what it found out about words. Of one thread."""

    def __init__(self) -> None:
        self._analyzer = Analyzer()

    async def snippets(self, question: str, texts: Sequence[str], limit: int, embed: Embed) -> list[Snippet]:
        """For each text, at most `limit` characters of it, but no sentence cut that has at most twice as many, from the
        sentence on that answers best. Of a table only the row: the next one is about something else.

        `embed` gives unit vectors; it is called once, with the question first.
        """
        places = [(i, start, end) for i, text in enumerate(texts) for start, end in spans(text)]
        said = [texts[i][start:end] for i, start, end in places]
        vectors = await embed([question, *said])
        similarity: np.ndarray = vectors[1:] @ vectors[0]
        answers = similarity + WORDS * np.array(self.shares(question, said))
        found = []
        for i, text in enumerate(texts):
            here = [at for at, place in enumerate(places) if place[0] == i]
            if not here:
                found.append(Snippet("", -1.0, -1.0))
                continue
            best = max(here, key=lambda at: answers[at])
            _, start, end = places[best]
            whole = min(end - start, 2 * limit)
            size = whole if is_row(texts[i], start) else max(limit, whole)
            found.append(Snippet(cut(text, start, size), float(similarity[here].max()), float(answers[best])))
        return found

    def shares(self, question: str, said: Sequence[str]) -> list[float]:
        """Of each sentence, the share of the question's words that it has in some form, by how rare they are among the
        sentences (Sparck Jones, 1972); 0 to 1."""
        analyses = [self._analyzer.document(sentence) for sentence in said]
        terms = [set(analysis.terms.split()) for analysis in analyses]
        asked = self._analyzer.question(question, {analysis.language for analysis in analyses})
        counts = Counter(term for each in terms for term in each & asked.keys())
        weights = {term: math.log((len(said) + 1) / (counts[term] + 0.5)) for term in asked}
        total = sum(weights.values())
        return [sum(weights[term] for term in each & asked.keys()) / total if total > 0 else 0.0 for each in terms]
