"""Texts to vectors, by sentence-transformers: the only module, with the rest of `models/encoder`, that imports it."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog import sha256_of
from models.errors import ModelFileError
from models.offline import OFFLINE

_BATCH = 8  # texts a forward pass; larger is slower on a CPU (cache)


class Embedder:
    """A loaded embedding model. Not safe for concurrent use; whoever opened it owns it."""

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        """Reads a local folder and nothing else. `num_threads` 0: torch's own choice. Raises `ModelFileError`."""
        weights = path / "model.safetensors"
        if not weights.is_file():
            raise ModelFileError(path, "not a sentence-transformers folder with a model.safetensors")
        os.environ.update(OFFLINE)
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        if num_threads:
            torch.set_num_threads(num_threads)
        try:
            self._model: Any = SentenceTransformer(
                str(path), device="cpu", local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever the libraries raise for damaged files: one line for the user
            raise ModelFileError(path, f"sentence-transformers cannot load it: {str(error).splitlines()[0]}") from error
        self.dimension: int = self._model.get_embedding_dimension()
        self.max_tokens: int = self._model.get_max_seq_length()
        self.fingerprint = _fingerprint(path, weights)
        self._tokenizer = self._model.tokenizer

    def count_tokens(self, text: str) -> int:
        """Tokens of a text without the model's own start and end marks."""
        return len(self._tokenizer.encode(text, add_special_tokens=False, truncation=False, verbose=False))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension), with the model's prompt for documents."""
        return self._encode(self._model.encode_document, texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension), with the model's prompt for queries."""
        return self._encode(self._model.encode_query, texts)

    def _encode(self, encode: Any, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        vectors: NDArray[np.float32] = encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return np.ascontiguousarray(vectors, np.float32)


def _fingerprint(path: Path, weights: Path) -> str:
    """Names the vector space: vectors of equal fingerprint may be compared. Weights, pooling, prompts, precision."""
    digest = hashlib.sha256(sha256_of(weights).encode())
    for name in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json", "tokenizer.json"):
        if (file := path / name).is_file():
            digest.update(file.read_bytes())
    digest.update(b"float32")
    return digest.hexdigest()[:16]
