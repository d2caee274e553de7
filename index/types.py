"""The words of the index. A document becomes chunks; a chunk that was found is a passage.

`Embedder` and its kin are what this package needs from a model; it knows no model itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # unit vectors, one a row


class DocumentEmbedder(Protocol):
    """What the indexer needs. `fingerprint` names the vector space: equal fingerprints, comparable vectors."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...
    def embed_documents(self, texts: Sequence[str]) -> Vectors: ...


class Reranker(Protocol):
    """What orders passages by reading them with the question. Higher scores are better; their scale is the model's."""

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Collection(msgspec.Struct, frozen=True):
    """A watched folder under a name."""

    name: str
    root: Path


class Block(NamedTuple):
    """A run of a document's canonical text that belongs together: `text[start:end]`, characters.

    `heading` is the path of headings it stands under, outermost first; `section` counts headings, also those that read
    the same.
    """

    start: int
    end: int
    heading: tuple[str, ...]
    section: int = 0


class Parsed(NamedTuple):
    """What a reader makes of a file: its canonical text, the blocks in it, and its title if it has one."""

    text: str
    blocks: list[Block]
    title: str | None


class Chunk(NamedTuple):
    """A citable piece of a document. `text` is `canonical[start:end]`, exactly; lines count from 1, both ends in."""

    text: str
    heading: tuple[str, ...]
    start: int
    end: int
    line_from: int
    line_to: int


class Passage(msgspec.Struct, frozen=True):
    """A chunk that was found, with all a citation needs. `score` lies in 0..1; `similarity` is the cosine, if known."""

    chunk_id: int
    document_id: int
    collection: str
    path: str  # relative to the collection's root, with /
    heading: tuple[str, ...]
    text: str
    line_from: int
    line_to: int
    score: float
    similarity: float | None = None
