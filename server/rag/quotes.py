"""For models that are made to quote: the answers their sources allow, word for word."""

from collections.abc import Iterable

from server.rag.brief import sentences
from server.rag.prompts import NO_ANSWER, Source


def quotes(sources: Iterable[Source]) -> list[str]:
    """Every sentence of every source with its marker, and the sentence that says that none answers."""
    return [*(f"{sentence} [{s.number}]" for s in sources for sentence in sentences(s.text)), NO_ANSWER]
