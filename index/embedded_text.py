"""The text of a chunk that is embedded, and its hash, by which chunks share a vector."""

import hashlib
from collections.abc import Sequence

from index.types import Chunk

_MAX_HEADING = 240  # characters


def content_hash(chunk: Chunk) -> bytes:
    """Return the SHA-256 of the chunk's embedded text."""
    return hashlib.sha256(embedded_text(chunk.heading, chunk.text_with_lead).encode(errors="replace")).digest()


def embedded_text(heading: Sequence[str], text: str) -> str:
    """Return the text under the last 240 characters of its headings. The file's name is not in it, so that a renamed
    file keeps its vectors."""
    return f"{' > '.join(heading)[-_MAX_HEADING:]}: {text}" if heading else text
