"""Chooses the part of a passage that answers a question best, for small models and slow machines."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import numpy as np

from index.lexical.analyzer import Analyzer
from index.types import Vectors
from server.rag.sentences import is_table_row, sentence_spans, truncate

# How much the question's words in a sentence count beside its similarity (docs/benchmarks.md, "The sentence that is
# quoted").
WORDS = 0.8

EmbedTexts = Callable[[Sequence[str]], Awaitable[Vectors]]


class Snippet(NamedTuple):
    """A part of a passage; "" where the passage has no sentence.

    `similarity` is the cosine of the question and the passage's sentence most like it; `answer_score` says how well
    the snippet's first sentence answers the question, at most 1 + `WORDS`.
    """

    text: str
    similarity: float
    answer_score: float


_NO_SNIPPET = Snippet("", -1.0, -1.0)


class SnippetSelector:
    """Chooses snippets. Holds a language analyzer, which remembers words; for one thread."""

    def __init__(self) -> None:
        self._analyzer = Analyzer()

    async def select(self, question: str, texts: Sequence[str], max_chars: int, embed: EmbedTexts) -> list[Snippet]:
        """Return a snippet of each text that begins with the sentence that answers best.

        A snippet has at most `max_chars` characters, but its first sentence is whole up to twice as many. Of a table
        it is the row alone, since the next row is about something else. `embed` gives unit vectors; it is called once,
        with the question first.
        """
        places = [(i, start, end) for i, text in enumerate(texts) for start, end in sentence_spans(text)]
        sentences = [texts[i][start:end] for i, start, end in places]
        vectors = await embed([question, *sentences])
        similarities: np.ndarray = vectors[1:] @ vectors[0]
        answer_scores = similarities + WORDS * np.array(self.word_shares(question, sentences))
        snippets = []
        for i, text in enumerate(texts):
            own = [at for at, place in enumerate(places) if place[0] == i]
            if not own:
                snippets.append(_NO_SNIPPET)
                continue
            best = max(own, key=lambda at: answer_scores[at])
            _, start, end = places[best]
            snippet = _cut(text, start, end, max_chars)
            snippets.append(Snippet(snippet, float(similarities[own].max()), float(answer_scores[best])))
        return snippets

    def word_shares(self, question: str, sentences: Sequence[str]) -> list[float]:
        """Return for each sentence the share, 0 to 1, of the question's words that it has in some form.

        A word counts by how rare it is among the sentences (Sparck Jones, 1972).
        """
        analyses = [self._analyzer.document(sentence) for sentence in sentences]
        terms = [set(analysis.terms.split()) for analysis in analyses]
        question_terms = self._analyzer.question(question, {analysis.language for analysis in analyses}).keys()
        counts = Counter(term for each in terms for term in each & question_terms)
        weights = {term: math.log((len(sentences) + 1) / (counts[term] + 0.5)) for term in question_terms}
        total = sum(weights.values())
        return [sum(weights[term] for term in each & question_terms) / total if total > 0 else 0.0 for each in terms]


def _cut(text: str, start: int, end: int, max_chars: int) -> str:
    """Return the snippet that begins with the sentence `text[start:end]`."""
    sentence_chars = min(end - start, 2 * max_chars)
    return truncate(text, start, sentence_chars if is_table_row(text, start) else max(max_chars, sentence_chars))
