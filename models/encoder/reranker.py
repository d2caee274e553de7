"""Rerankers: cross-encoders, which read a query and a text together and score them. Optional; none is bundled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoder.exports import require_manifest
from models.encoder.messages import ModelFiles
from models.offline import stay_offline


class CrossEncoder(Protocol):
    """A loaded cross-encoder. Scores are on the model's own scale, 0..1 or logits; higher is better."""

    @property
    def has_probabilities(self) -> bool: ...
    def count_tokens(self, query: str, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each pair, after truncation."""

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one score for each text, shape (len(texts),)."""


def open_reranker(files: ModelFiles, num_threads: int = 0) -> CrossEncoder:
    """Load a reranker. `num_threads` 0: the runtime chooses. Raises `ModelFileError`."""
    if files.export is None:
        from models.encoder.torch_models import TorchReranker

        return TorchReranker(Path(files.path), num_threads)
    return OnnxReranker(Path(files.export), files.source, num_threads)


class OnnxReranker:
    """A model that `models.encoder.conversion` has converted: the activation is in the graph."""

    def __init__(self, folder: Path, source: str, num_threads: int = 0) -> None:
        """Raises `ModelFileError`."""
        stay_offline()
        from models.encoder.onnx_model import OnnxModel

        manifest = require_manifest(folder, source)
        self._model = OnnxModel(folder, num_threads)
        self.has_probabilities = manifest.has_probabilities

    def count_tokens(self, query: str, texts: Sequence[str]) -> list[int]:
        return self._model.count_tokens([(query, text) for text in texts])

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._model.run([(query, text) for text in texts]).reshape(len(texts))
