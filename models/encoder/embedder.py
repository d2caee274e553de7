"""Embedding models: on onnxruntime where the model was converted, on sentence-transformers otherwise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoder.exports import fingerprint_of, require_manifest
from models.encoder.messages import ModelFiles, TextKind
from models.offline import stay_offline

Vectors = NDArray[np.float32]  # unit vectors, shape (number of texts, dimension)


class Embedder(Protocol):
    """A loaded embedding model. It puts the model's own prompts before queries and documents."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    def max_text_tokens(self, kind: TextKind) -> int:
        """Return how many tokens a text may have beside the prompt and the model's start and end tokens."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of a text, without truncation and without the model's start and end tokens."""

    def embed_documents(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors:
        """Embed documents. `low_priority`: everything else goes first, where the runtime supports it."""

    def embed_queries(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors: ...


def open_embedder(files: ModelFiles, num_threads: int = 0) -> Embedder:
    """Load an embedding model. `num_threads` 0: the runtime chooses. Raises `ModelFileError`."""
    if files.export is None:
        from models.encoder.torch_models import TorchEmbedder

        return TorchEmbedder(Path(files.path), files.source, num_threads)
    return OnnxEmbedder(Path(files.export), files.source, num_threads)


class OnnxEmbedder:
    """A model that `models.encoder.conversion` has converted: pooling and normalization are in the graph."""

    def __init__(self, folder: Path, source: str, num_threads: int = 0) -> None:
        """Raises `ModelFileError`."""
        stay_offline()
        from models.encoder.onnx_model import OnnxModel, token_counter

        manifest = require_manifest(folder, source)
        self._model = OnnxModel(folder, num_threads)
        self._query_prompt, self._document_prompt = manifest.query_prompt, manifest.document_prompt
        self.dimension = manifest.dimension
        self.max_tokens = manifest.max_tokens
        self.fingerprint = fingerprint_of(source, manifest.precision)
        self.count_tokens = token_counter(folder)
        count_all = token_counter(folder, with_special_tokens=True)
        self._max_text_tokens: dict[TextKind, int] = {
            "query": self.max_tokens - count_all(self._query_prompt),
            "document": self.max_tokens - count_all(self._document_prompt),
        }

    def max_text_tokens(self, kind: TextKind) -> int:
        return self._max_text_tokens[kind]

    def embed_documents(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors:
        return self._embed(self._document_prompt, texts, low_priority)

    def embed_queries(self, texts: Sequence[str], *, low_priority: bool = False) -> Vectors:
        return self._embed(self._query_prompt, texts, low_priority)

    def _embed(self, prompt: str, texts: Sequence[str], low_priority: bool) -> Vectors:
        vectors = self._model.run([prompt + text for text in texts], low_priority=low_priority)
        return vectors.reshape(len(texts), self.dimension)
