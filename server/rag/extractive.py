"""Replies of extractive models, which quote their sources word for word."""

from collections.abc import Iterable, Mapping, Sequence

from server.rag.prompts import NO_ANSWER, Source
from server.rag.sentences import sentences


def extractive_answers(sources: Iterable[Source]) -> list[str]:
    """Return every sentence of every source, with its marker."""
    return [f"{sentence} [{source.number}]" for source in sources for sentence in sentences(source.text)]


def extractive_choices(relevant: Sequence[Source], in_prompt: Mapping[int, Source]) -> list[str]:
    """Return the replies that an extractive model may choose from: sentences of the best source in the prompt.

    Search and relevance choose the source, and decide whether there is an answer at all, no worse than a model this
    small does (`scripts/eval/reader_model.py --brief 300`: right in 77 % of cases, and in 75 % when the model has all
    sources and a refusal to choose from).
    """
    best = [source for source in relevant if source.number in in_prompt][:1]
    return extractive_answers(best) or [NO_ANSWER]
