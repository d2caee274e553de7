"""Vectors of texts that are longer than the embedder reads: of all their parts, not of their beginning."""

from collections.abc import Sequence

import numpy as np
import semchunk

from index.types import DocumentEmbedder, Vectors


def embed_long_texts(embedder: DocumentEmbedder, texts: Sequence[str]) -> Vectors:
    """Unit vectors, one a text. A text that is too long has the mean of its parts'."""
    parts = [_parts(embedder, text) for text in texts]
    vectors = embedder.embed_documents([part for each in parts for part in each])
    if len(vectors) == len(texts):
        return vectors
    ends = np.cumsum([len(each) for each in parts])[:-1]
    return np.stack([_mean(some) for some in np.split(vectors, ends)])


def _mean(vectors: Vectors) -> Vectors:
    """Of one vector, itself, to the last bit."""
    if len(vectors) == 1:
        only: Vectors = vectors[0]
        return only
    mean = vectors.mean(axis=0)
    unit: Vectors = (mean / np.linalg.norm(mean)).astype(np.float32)
    return unit


def _parts(embedder: DocumentEmbedder, text: str) -> list[str]:
    limit = embedder.max_tokens
    if len(text) <= limit or embedder.count_tokens(text) <= limit:  # a token is rarely less than a character
        return [text]
    parts: list[str] = semchunk.chunk(text, limit, embedder.count_tokens, memoize=False)
    return parts or [text]
