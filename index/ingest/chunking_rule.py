"""The rule by which documents are cut, with a description that changes when the rule does."""

from typing import NamedTuple

from index.reading import readers
from index.types import DocumentEmbedder

_SMALLEST_LIMIT = 16  # tokens; a single character can take several
_HEADING_TOKENS = 80  # kept free for the headings that are embedded with a chunk
# Tokenizers that count these alike cut documents alike, as far as it matters.
_SAMPLES = (
    "Parental leave is sixteen weeks with full pay, for mothers and fathers alike.",
    "Die Kündigungsfrist beträgt drei Monate zum Monatsende. Привет! 会议定于星期三上午十点在二楼举行。",
    "def area(radius: float) -> float:\n    return math.pi * radius**2",
)


class ChunkingRule(NamedTuple):
    """`limit` is the size of a chunk in the embedder's tokens. Documents cut by a rule of another `description` must
    be cut again."""

    limit: int
    description: str


def chunking_rule(chunk_tokens: int, embedder: DocumentEmbedder) -> ChunkingRule:
    """Return the rule for chunks of `chunk_tokens`, or of fewer where the embedder reads no more."""
    limit = min(chunk_tokens, embedder.max_tokens - _HEADING_TOKENS)
    counts = "/".join(str(embedder.count_tokens(text)) for text in _SAMPLES)
    return ChunkingRule(max(limit, _SMALLEST_LIMIT), f"{limit} tokens, as of {counts}, readers {readers.VERSION}")
