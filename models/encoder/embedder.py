"""Texts to unit vectors: on onnxruntime where the model was converted, by sentence-transformers otherwise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoder.exports import fingerprint_of, read_manifest
from models.encoder.messages import ModelFiles, TextKind
from models.errors import ModelFileError

Vectors = NDArray[np.float32]  # unit vectors, shape (number of texts, dimension)


class Embedder(Protocol):
    """A loaded embedding model. Queries and documents get the prompts the model wants for them."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    def room(self, kind: TextKind) -> int:
        """Tokens a text may have, beside the prompt and the model's own marks."""

    def count_tokens(self, text: str) -> int: ...
    def embed_documents(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors:
        """`low_priority`: everything else comes first, where the runtime can do so."""

    def embed_queries(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors: ...


def open_embedder(files: ModelFiles, num_threads: int = 0) -> Embedder:
    """`num_threads` 0: the runtime's own choice. Raises `ModelFileError`."""
    if files.export is None:
        from models.encoder.reference import ReferenceEmbedder

        return ReferenceEmbedder(Path(files.path), files.source, num_threads)
    return ConvertedEmbedder(Path(files.export), files.source, num_threads)


class ConvertedEmbedder:
    """A conversion, as `models.encoder.exporter` makes it: pooling and normalization are in the graph."""

    def __init__(self, folder: Path, source: str, num_threads: int = 0) -> None:
        from models.encoder.graph import Graph, token_counter

        manifest = read_manifest(folder, source)
        if manifest is None or manifest.refusal is not None:
            raise ModelFileError(folder, "the converted model was altered or removed")
        self._graph = Graph(folder, num_threads)
        self._query_prompt, self._document_prompt = manifest.query_prompt, manifest.document_prompt
        self.dimension = manifest.dimension
        self.max_tokens = manifest.max_tokens
        self.fingerprint = fingerprint_of(source, manifest.precision)
        self.count_tokens = token_counter(folder)
        count = token_counter(folder, with_marks=True)
        self._rooms: dict[TextKind, int] = {
            "query": self.max_tokens - count(self._query_prompt),
            "document": self.max_tokens - count(self._document_prompt),
        }

    def room(self, kind: TextKind) -> int:
        return self._rooms[kind]

    def embed_documents(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors:
        return self._embed(self._document_prompt, texts, low_priority)

    def embed_queries(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors:
        return self._embed(self._query_prompt, texts, low_priority)

    def _embed(self, prompt: str, texts: Sequence[str], low_priority: bool) -> Vectors:
        vectors = self._graph.run([prompt + text for text in texts], low_priority=low_priority)
        return vectors.reshape(len(texts), self.dimension)
