"""For models that are made to quote: the answers their sources allow, word for word."""

from collections.abc import Iterable

from server.rag.prompts import Source
from server.rag.sentences import sentences


def extractive_answers(sources: Iterable[Source]) -> list[str]:
    """Every sentence of every source with its marker."""
    return [f"{sentence} [{source.number}]" for source in sources for sentence in sentences(source.text)]
