"""Models on sentence-transformers: the reference for conversions, and the runtime of models without a conversion."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoder.exports import fingerprint_of
from models.encoder.messages import TextKind
from models.errors import ModelFileError
from models.offline import stay_offline

_BATCH_SIZE = 8  # texts in a forward pass; larger batches are slower on a CPU (cache)


class TorchEmbedder:
    """An embedder with a lock: one call runs at a time, and others wait."""

    def __init__(self, path: Path, source: str, num_threads: int = 0) -> None:
        """Load a local folder and nothing else. `num_threads` 0: torch chooses. Raises `ModelFileError`."""
        self.model: Any = _load("SentenceTransformer", path, num_threads)
        self.dimension: int = self.model.get_embedding_dimension()
        self.max_tokens: int = self.model.get_max_seq_length() or 512
        self.fingerprint = fingerprint_of(source, "float32")
        self.query_prompt = self._prompt("query")
        self.document_prompt = self._prompt("document", "passage", "corpus")
        self._tokenizer = self.model.tokenizer
        self._lock = threading.Lock()  # transformers' tokenizers are not thread-safe

    def max_text_tokens(self, kind: TextKind) -> int:
        prompt = self.query_prompt if kind == "query" else self.document_prompt
        with self._lock:
            return self.max_tokens - len(self._tokenizer.encode(prompt))

    def count_tokens(self, text: str) -> int:
        with self._lock:
            return len(self._tokenizer.encode(text, add_special_tokens=False, truncation=False, verbose=False))

    def embed_documents(self, texts: Sequence[str], *, low_priority: bool = False) -> NDArray[np.float32]:
        return self._encode(self.model.encode_document, self.document_prompt, texts)

    def embed_queries(self, texts: Sequence[str], *, low_priority: bool = False) -> NDArray[np.float32]:
        return self._encode(self.model.encode_query, self.query_prompt, texts)

    def _prompt(self, *names: str) -> str:
        """Return the first prompt that is not empty; sentence-transformers itself stops at an empty `document`."""
        return next((prompt for name in names if (prompt := self.model.prompts.get(name))), "")

    def _encode(self, encode: Callable[..., Any], prompt: str, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        with self._lock:
            vectors: NDArray[np.float32] = encode(
                list(texts),
                prompt=prompt,
                batch_size=_BATCH_SIZE,
                normalize_embeddings=True,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.ascontiguousarray(vectors, np.float32)


class TorchReranker:
    """A cross-encoder. Not safe for concurrent use; the caller that opened it owns it."""

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        """Load a local folder and nothing else. `num_threads` 0: torch chooses. Raises `ModelFileError`."""
        self.model: Any = _load("CrossEncoder", path, num_threads)
        if self.model.num_labels != 1:
            raise ModelFileError(
                path, f"not a reranker: it gives {self.model.num_labels} numbers a pair, not one score"
            )

    @property
    def has_probabilities(self) -> bool:
        return type(self.model.activation_fn).__name__ == "Sigmoid"

    def count_tokens(self, query: str, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        encoded = self.model.tokenizer([query] * len(texts), list(texts), truncation=True)
        return [len(ids) for ids in encoded["input_ids"]]

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        pairs = [(query, text) for text in texts]
        scores = self.model.predict(pairs, batch_size=_BATCH_SIZE, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(scores, np.float32)


def _load(class_name: str, path: Path, num_threads: int) -> Any:
    """Return an instance of a class of sentence_transformers, read from a local folder."""
    stay_offline()
    import sentence_transformers
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if num_threads:
        torch.set_num_threads(num_threads)
    try:
        return getattr(sentence_transformers, class_name)(
            str(path), device="cpu", local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever the libraries raise for damaged files: one line for the user
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelFileError(path, f"sentence-transformers cannot load it: {reason}") from error
