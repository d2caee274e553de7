"""Vectors of texts that are longer than the embedder reads: the mean of their parts', not their beginning's."""

from collections.abc import Sequence

import numpy as np
import semchunk

from index.types import DocumentEmbedder, Vectors


def embed_long_texts(embedder: DocumentEmbedder, texts: Sequence[str]) -> Vectors:
    """Return a unit vector for each text; that of a text that is too long is the mean of its parts'."""
    parts = [_split(embedder, text) for text in texts]
    vectors = embedder.embed_documents([part for each in parts for part in each])
    if len(vectors) == len(texts):
        return vectors
    ends = np.cumsum([len(each) for each in parts])[:-1]
    return np.stack([_mean(some) for some in np.split(vectors, ends)])


def _mean(vectors: Vectors) -> Vectors:
    """Return the mean as a unit vector; of one vector, that vector to the last bit."""
    if len(vectors) == 1:
        only: Vectors = vectors[0]
        return only
    mean = vectors.mean(axis=0)
    unit: Vectors = (mean / np.linalg.norm(mean)).astype(np.float32)
    return unit


def _split(embedder: DocumentEmbedder, text: str) -> list[str]:
    limit = embedder.max_tokens
    if len(text) <= limit or embedder.count_tokens(text) <= limit:  # a token is rarely less than a character
        return [text]
    parts: list[str] = semchunk.chunk(text, limit, embedder.count_tokens, memoize=False)
    return parts or [text]
