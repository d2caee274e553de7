"""Passages that were found, as the numbered sources of a conversation."""

from collections.abc import Sequence
from typing import NamedTuple

from index.types import Passage
from server.rag.context import Context
from server.rag.history import last_number
from server.rag.merging import merge_adjacent
from server.rag.prompts import Source
from server.rag.relevance import calibrated_scores, filter_relevant
from server.rag.sentences import passage_text
from server.rag.snippets import EmbedTexts, SnippetSelector

MIN_SIMILARITY = 0.25  # cosine; below it no sentence of a passage has to do with the question


class SourceSelection(NamedTuple):
    """Sources of one question, best first, with the text that matters for it. `new` are those that the conversation
    does not have yet."""

    relevant: Sequence[Source] = ()
    new: Sequence[Source] = ()


class SourceSelector:
    """Chooses what a model reads of the passages that a search found. Holds a language analyzer; for one thread."""

    def __init__(self, embed: EmbedTexts) -> None:
        self._embed = embed
        self._snippets = SnippetSelector()

    async def select(
        self, passages: Sequence[Passage], context: Context, question: str, min_score: float, max_chars: int
    ) -> SourceSelection:
        """Return the sources for a question, numbered on from those that the conversation ever had.

        `max_chars` limits a source's text, 0 does not. A passage that the context holds already keeps its number.
        """
        scored = zip(passages, calibrated_scores(passages), strict=True)
        relevant = filter_relevant([passage for passage, score in scored if score >= min_score])
        texts = await self._texts(question, merge_adjacent(relevant), max_chars)
        return _number(texts, context)

    async def _texts(self, question: str, passages: Sequence[Passage], max_chars: int) -> list[tuple[Passage, str]]:
        """Return the passages with the text that the model is given of each, best first."""
        texts = [passage_text(passage) for passage in passages]
        if not max_chars or not passages:
            return list(zip(passages, texts, strict=True))
        snippets = await self._snippets.select(question, texts, max_chars, self._embed)
        near = [(p, s) for p, s in zip(passages, snippets, strict=True) if s.similarity >= MIN_SIMILARITY]
        # A model that needs short passages also leans on the first one: the snippet that answers best leads.
        near.sort(key=lambda each: -(each[0].score + each[1].answer_score))
        return [(passage, snippet.text) for passage, snippet in near]


def _number(texts: Sequence[tuple[Passage, str]], context: Context) -> SourceSelection:
    present = context.sources.values()
    number = last_number(context.messages, context.turns)
    relevant: list[Source] = []
    new: list[Source] = []
    for passage, text in texts:
        known = next((source.number for source in present if _contains(source, passage, text)), None)
        if known is None:
            number += 1
            new.append(Source(number, passage, text))
        relevant.append(Source(known or number, passage, text))
    return SourceSelection(relevant, new)


def _contains(source: Source, passage: Passage, text: str) -> bool:
    other = source.passage
    return (other.collection, other.path) == (passage.collection, passage.path) and text in source.text
